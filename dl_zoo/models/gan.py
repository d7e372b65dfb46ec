"""Generative adversarial nets: one net makes things up, the other tells them from what is real.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio, "Generative Adversarial Nets", 2014,
arXiv:1406.2661, section 3. The generator G turns noise z into an item, the discriminator D an item into the probability
that it is real; they play

    min_G max_D V(D, G) = E log D(x) + E log(1 - D(G(z)))                                               (eq. 1)

Where both are optimal, G's items have the law of the data, D is 1/2 everywhere and V = -log 4 (theorem 1).

    G    noise 100 -> 1200 -> 1200 ReLU -> 784 sigmoid                         2,503,984
    D    784 -> 240 maxout of 5 -> 240 maxout of 5 -> 1                        1,231,441

The paper says only which units there are (section 5: rectifiers and sigmoids in G, maxout and dropout in D); sizes and
rates of dropout are those of the authors' code for MNIST. A maxout unit is the largest of `pieces` weighted sums
(Goodfellow et al. 2013, arXiv:1302.4389).

Departures: items are in -1..1, as DCGAN's, so the sigmoid is stretched to 2 s(x) - 1; `output="linear"` is for points
of a plane. The noise that tasks hand in is normal, where the authors' is uniform. Weights are torch's defaults.
`pieces=1` is a leaky rectifier (slope 0.2) in place of maxout, as in later discriminators.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2
OUTPUTS = {"sigmoid": lambda x: 2 * torch.sigmoid(x) - 1, "tanh": torch.tanh, "linear": lambda x: x}


class Generator(nn.Module):
    """Noise (B, noise) -> vectors (B, features), or pictures (B, C, H, H) where there are channels."""

    def __init__(self, noise: int, width: int, depth: int, features: int, channels: int | None, output: str):
        super().__init__()
        side = round((features / channels) ** 0.5) if channels else 0
        if channels and channels * side**2 != features:
            raise ValueError(f"{features} features are no square pictures of {channels} channels")
        self.shape = (channels, side, side) if channels else (features,)
        self.output = OUTPUTS[output]
        widths = [noise] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        self.last = nn.Linear(widths[-1], features)

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers:
            z = torch.relu(layer(z))  # (B, width)
        return self.output(self.last(z)).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """Items (B, ...) -> logits (B,): log D / (1 - D)."""

    def __init__(self, features: int, units: int, pieces: int, depth: int, dropout: float, input_dropout: float):
        super().__init__()
        self.pieces = pieces
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        widths = [features] + [units] * depth
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out * pieces) for n_in, n_out in pairwise(widths))
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_dropout(x.flatten(1))
        for layer in self.layers:
            x = self.dropout(self.unit(layer(x)))  # (B, units)
        return self.last(x).squeeze(1)

    def unit(self, sums: Tensor) -> Tensor:  # (B, units * pieces) -> (B, units)
        if self.pieces == 1:
            return F.leaky_relu(sums, LEAK)
        return sums.unflatten(1, (-1, self.pieces)).amax(2)


class GAN(nn.Module):
    """`width` is of the generator's hidden layers, `units` of the discriminator's; both have `depth` of them.

    `channels=None`: items are vectors. `output`: sigmoid, tanh or linear.

    >>> net = GAN()
    >>> [sum(p.numel() for p in each.parameters()) for each in (net.generator, net.discriminator)]
    [2503984, 1231441]
    >>> net.generator(torch.zeros(2, 100)).shape, net(torch.zeros(2, 100)).shape
    (torch.Size([2, 1, 28, 28]), torch.Size([2]))
    """

    def __init__(
        self,
        features: int = 784,
        channels: int | None = 1,
        noise: int = 100,
        width: int = 1200,
        units: int = 240,
        pieces: int = 5,
        depth: int = 2,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
        output: str = "sigmoid",
    ):
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"output={output!r} is not one of {', '.join(OUTPUTS)}")
        if min(noise, pieces) < 1:
            raise ValueError(f"noise={noise}, pieces={pieces}: must be at least 1")
        self.noise = noise
        self.generator = Generator(noise, width, depth, features, channels, output)
        self.discriminator = Discriminator(features, units, pieces, depth, dropout, input_dropout)

    def forward(self, z: Tensor) -> Tensor:
        """The discriminator's logits (B,) of what the generator makes of noise (B, noise)."""
        return self.discriminator(self.generator(z))
