"""Autoencoder: a picture through a narrow code and back.

Hinton, Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006, figure 1 and note
on MNIST: 784-1000-500-250-30 and the same back, with a linear code.

    h_l = f(W_l h_(l-1) + b_l),    code = V h,    and the mirror image of it from the code to logits of the pixels

With `widths=[]` encoder and decoder are one linear map each, and what they keep is what principal components keep
(Bourlard, Kamp 1988), with squared error for a loss and no squashing behind it.

Departures: rectified linear units, which train from random weights, where the paper has logistic ones that it first
trains layer by layer as restricted Boltzmann machines; `activation=sigmoid` has its units.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt

from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "softplus": nn.Softplus}


class Autoencoder(nn.Module):
    """Logits of pixels, of the shape of the pictures (B, C, H, W), from `code` numbers a picture.

    `encode` gives the code (B, code), `decode` turns it into logits.

    >>> import torch
    >>> net = Autoencoder()
    >>> sum(p.numel() for p in net.parameters())  # 785,000; 500,500; 125,250; 7,530; and back 7,750 to 784,784
    2837314
    >>> net(torch.zeros(2, 1, 28, 28)).shape, net.encode(torch.zeros(2, 1, 28, 28)).shape
    (torch.Size([2, 1, 28, 28]), torch.Size([2, 30]))

    Args:
        in_features: numbers a picture, C * H * W; the pictures are square.
        widths: of the encoder's hidden layers; the decoder has them the other way round.
    """

    def __init__(
        self,
        in_features: int = 784,
        channels: int = 1,
        widths: Sequence[int] = (1000, 500, 250),
        code: int = 30,
        activation: str = "relu",
    ):
        super().__init__()
        self.shape = picture_shape(in_features, channels)
        self.encoder = nn.Sequential(*hidden([in_features, *widths], activation))
        self.code = nn.Linear([in_features, *widths][-1], code)
        self.decoder = nn.Sequential(*hidden([code, *reversed(widths)], activation))
        self.reconstruction = nn.Linear([code, *reversed(widths)][-1], in_features)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        return self.code(self.encoder(x.flatten(1)))  # (B, code)

    def decode(self, code: Tensor) -> Tensor:
        return self.reconstruction(self.decoder(code)).unflatten(-1, self.shape)  # (B, C, H, W)


def hidden(widths: Sequence[int], activation: str) -> list[nn.Module]:
    """Dense layers through these widths, an activation after each. ValueError: one that is not known."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is not one of {', '.join(ACTIVATIONS)}")
    return [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), ACTIVATIONS[activation]())]


def picture_shape(in_features: int, channels: int) -> tuple[int, int, int]:
    """(C, H, W) of square pictures. ValueError where there are none of that many numbers.

    >>> picture_shape(784, 1), picture_shape(3072, 3)
    ((1, 28, 28), (3, 32, 32))
    """
    side = isqrt(in_features // channels)
    if channels * side**2 != in_features:
        raise ValueError(f"in_features={in_features}: no square picture of {channels} channel(s) has so many numbers")
    return channels, side, side
