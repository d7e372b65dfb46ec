"""The variational autoencoder with convolutions, for square pictures of any size that can be halved `depth` times.

Burgess, Higgins, Pal, Matthey, Watters, Desjardins, Lerchner, "Understanding disentangling in beta-VAE", 2018,
arXiv:1804.03599, appendix A: convolutions of 32 maps, 4x4 at stride 2, then two layers of 256 units to 10 latents, and
the mirror image with transposed convolutions back; rectified linear units. The equations are those of `vae`.

    28 px, depth 2:   1x28x28 - 32x14x14 - 32x7x7 - 256 - 256 - mean, log variance of 10

Departures: two convolutions, which any picture divisible by 4 can take; the paper's are four, on pictures of 64 pixels
(`depth=4`). A class stands beside the code as in `vae`, and beside the flattened maps of the picture.
"""

from itertools import pairwise

from torch import Tensor, nn

from dl_zoo.models.autoencoder import hidden, picture_shape
from dl_zoo.models.vae import beside, classes_beside, sampled


class ConvolutionalVAE(nn.Module):
    """`(reconstruction_logits, mean, log_variance)` of pictures (B, C, H, W); methods and classes as those of `VAE`.

    >>> import torch
    >>> net = ConvolutionalVAE()
    >>> sum(p.numel() for p in net.parameters())  # maps 544, 16,416; 401,664, 65,792; 5,140; back 471,584, 16,929
    978069
    >>> net(torch.zeros(2, 1, 28, 28))[0].shape, net.decode(torch.zeros(5, 2, 10)).shape
    (torch.Size([2, 1, 28, 28]), torch.Size([5, 2, 1, 28, 28]))
    """

    def __init__(
        self,
        in_features: int = 784,
        channels: int = 1,
        num_classes: int | None = 10,
        width: int = 32,
        depth: int = 2,
        units: int = 256,
        latents: int = 10,
        conditional: bool = False,
    ):
        super().__init__()
        _, side, _ = picture_shape(in_features, channels)
        if side % 2**depth:
            raise ValueError(
                f"pictures of {side} pixels cannot be halved {depth} times; data.image_size or model.depth"
            )
        self.latents, self.conditional = latents, conditional
        self.classes = classes_beside(num_classes, conditional)
        self.maps = width, side // 2**depth, side // 2**depth  # what lies between convolutions and dense layers
        flat = width * (side // 2**depth) ** 2
        halving = [(nn.Conv2d(*pair, 4, 2, 1), nn.ReLU()) for pair in pairwise([channels] + [width] * depth)]
        self.convolutions = nn.Sequential(*(layer for pair in halving for layer in pair))
        self.encoder = nn.Sequential(*hidden([flat + self.classes, units, units], "relu"))
        self.mean = nn.Linear(units, latents)
        self.log_variance = nn.Linear(units, latents)
        self.decoder = nn.Sequential(*hidden([latents + self.classes, units, units, flat], "relu"))
        doubling = [nn.ConvTranspose2d(*pair, 4, 2, 1) for pair in pairwise([width] * depth + [channels])]
        between = [layer for each in doubling[:-1] for layer in (each, nn.ReLU())]
        self.reconstruction = nn.Sequential(*between, doubling[-1])

    def forward(
        self, x: Tensor, classes: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x, classes)
        return self.decode(sampled(mean, log_variance, noise), classes), mean, log_variance

    def encode(self, x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        maps = self.convolutions(x).flatten(1)  # (B, C, H, W) -> (B, width * H / 4 * W / 4)
        h = self.encoder(beside(maps, classes, self.classes))  # (B, units)
        return self.mean(h), self.log_variance(h)

    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        maps = self.decoder(beside(z, classes, self.classes))  # (..., B, L) -> (..., B, width * H / 4 * W / 4)
        logits = self.reconstruction(maps.view(-1, *self.maps))  # convolutions know one leading dimension
        return logits.unflatten(0, z.shape[:-1])  # (..., B, C, H, W)
