"""Variational autoencoder: a picture's code is a distribution, and what is decoded is drawn from it.

Kingma, Welling, "Auto-Encoding Variational Bayes", 2013, arXiv:1312.6114, sections 2.4 and 3, appendices B and C.

    q(z | x) = N(mean(x), exp(log_variance(x))),    z = mean + exp(log_variance / 2) * noise,  noise ~ N(0, 1)
    p(z) = N(0, 1),                                 p(x | z) by the logits of the decoder             (eq. 10)

Because z is a function of the noise, the gradient of what is expected over z reaches mean and variance through it. The
loss, the evidence bound, is the task's (`dl_zoo/tasks/vae.py`).

`conditional=true` puts the class, one number a class, beside the picture and beside the code, so that a class can be
asked for (Sohn, Lee, Yan, "Learning Structured Output Representation using Deep Conditional Generative Models", 2015).

`vae_iwae` is this net with two layers of 200 tanh units and 50 latents on each side: the net with one stochastic layer
of Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", 2016, arXiv:1509.00519, section 5.

Departures: 400 rectified linear units and 20 latents, the size that is widely compared, where the paper has 500 tanh
units on MNIST (`activation=tanh`); initial weights are torch's, the paper's are N(0, 0.01), and Burda et al. draw
theirs after Glorot and start the output's biases at the mean picture.
"""

import torch
from torch import Tensor, nn

from dl_zoo.models.autoencoder import hidden, picture_shape


class VAE(nn.Module):
    """`(reconstruction_logits, mean, log_variance)` of pictures (B, C, H, W): logits of their shape, moments (B, L).

    `encode(x)` gives mean and log variance, `decode(z)` logits; leading dimensions of z are kept. A conditional net is
    told `classes` in all three: (B,) int64, or probabilities (B, num_classes); None: any class, all alike.

    >>> net = VAE()
    >>> sum(p.numel() for p in net.parameters())  # 314,000; twice 8,020; 8,400; 314,384
    652824
    >>> logits, mean, log_variance = net(torch.zeros(2, 1, 28, 28))
    >>> logits.shape, mean.shape, log_variance.shape
    (torch.Size([2, 1, 28, 28]), torch.Size([2, 20]), torch.Size([2, 20]))
    >>> net(torch.zeros(2, 1, 28, 28), noise=torch.zeros(5, 2, 20))[0].shape  # five codes a picture
    torch.Size([5, 2, 1, 28, 28])

    Args:
        in_features: numbers a picture, C * H * W; the pictures are square.
        depth: hidden layers of `width` units on each side; 0: linear maps.
    """

    def __init__(
        self,
        in_features: int = 784,
        channels: int = 1,
        num_classes: int | None = 10,
        width: int = 400,
        depth: int = 1,
        latents: int = 20,
        activation: str = "relu",
        conditional: bool = False,
    ):
        super().__init__()
        self.shape, self.latents, self.conditional = picture_shape(in_features, channels), latents, conditional
        self.classes = classes_beside(num_classes, conditional)
        inward, outward = [in_features + self.classes], [latents + self.classes]
        inward, outward = inward + [width] * depth, outward + [width] * depth
        self.encoder = nn.Sequential(*hidden(inward, activation))
        self.mean = nn.Linear(inward[-1], latents)
        self.log_variance = nn.Linear(inward[-1], latents)
        self.decoder = nn.Sequential(*hidden(outward, activation))
        self.reconstruction = nn.Linear(outward[-1], in_features)

    def forward(
        self, x: Tensor, classes: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`noise`: (B, L), or (K, B, L) for K codes a picture; None: drawn, one code."""
        mean, log_variance = self.encode(x, classes)
        return self.decode(sampled(mean, log_variance, noise), classes), mean, log_variance

    def encode(self, x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self.encoder(beside(x.flatten(1), classes, self.classes))  # (B, C * H * W + classes) -> (B, width)
        return self.mean(h), self.log_variance(h)  # (B, L) each

    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        h = self.decoder(beside(z, classes, self.classes))  # (..., B, L + classes) -> (..., B, width)
        return self.reconstruction(h).unflatten(-1, self.shape)  # (..., B, C, H, W)


def sampled(mean: Tensor, log_variance: Tensor, noise: Tensor | None) -> Tensor:
    """Equation 10: moments (B, L), noise (..., B, L) -> codes of the noise's shape."""
    noise = torch.randn_like(mean) if noise is None else noise
    return mean + (log_variance / 2).exp() * noise


def classes_beside(num_classes: int | None, conditional: bool) -> int:
    """How many numbers stand beside a net's inputs. ValueError: classes are asked for where there are none."""
    if conditional and not num_classes:
        raise ValueError("conditional=true asks for num_classes, and these data have no classes")
    return int(num_classes or 0) if conditional else 0


def beside(x: Tensor, classes: Tensor | None, count: int) -> Tensor:
    """x (..., B, F) with its classes (B,), one of `count` numbers set; or with their probabilities (B, count).

    Without classes all are alike; with a `count` of 0 nothing is put beside x.

    >>> beside(torch.zeros(2, 1), torch.tensor([1, 0]), 2).tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    if not count:
        return x
    if classes is None:
        given = x.new_full((count,), 1 / count)
    else:
        given = classes if classes.is_floating_point() else torch.eye(count, device=x.device, dtype=x.dtype)[classes]
    return torch.cat([x, given.expand(*x.shape[:-1], count)], dim=-1)
