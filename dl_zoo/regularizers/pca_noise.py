"""Noise along the colours' principal axes: other intensity and colour of the light, nothing else changed.

Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, NIPS,
section 4.1: to every pixel (R, G, B) of a picture is added

    [p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T,    a_i ~ N(0, 0.1^2) once for the picture

with p_i, l_i the eigenvectors and eigenvalues of the 3x3 covariance of the training set's pixels. It took over one
point from the top-1 error.

Departure: the paper prints no numbers and computes them of its training set. The defaults are those that circulate for
ImageNet, of pixels in 0..1 (first in Facebook's training code for ResNet, 2016), whatever the data.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from dl_zoo.errors import UserError

EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = (  # in columns: light and dark; red against blue; green against both
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def pca_noise(
    images: Tensor,
    generator: Generator,
    strength: float,
    eigenvalues: Sequence[float] = EIGENVALUES,
    eigenvectors: Sequence[Sequence[float]] = EIGENVECTORS,
) -> Tensor:
    """Each of (B, 3, H, W) uint8 with one colour of its own added to all pixels, rounded and cut off to 0..255.

    The draws are the generator's, on the CPU; the pictures may be elsewhere. UserError for another number of channels,
    and unless strength, the deviation of a_i, is at least 0.

    >>> grey = torch.full((2, 3, 1, 1), 100, dtype=torch.uint8)
    >>> pca_noise(grey, Generator().manual_seed(0), strength=0.1).flatten(1)
    tensor([[95, 95, 95],
            [98, 98, 98]], dtype=torch.uint8)
    """
    if not 0 <= strength < float("inf"):
        raise UserError(f"regularizer.pca_noise.strength={strength}: must be at least 0")
    if images.shape[1] != 3:
        raise UserError(
            f"regularizer=pca_noise: the pictures have {images.shape[1]} channel(s); it needs 3; leave it out"
        )
    alpha = strength * torch.randn(len(images), 3, generator=generator)
    axes = torch.tensor([list(row) for row in eigenvectors])
    added = 255 * (alpha * torch.tensor(list(eigenvalues))) @ axes.T  # (B, 3)
    noisy = images + added.to(images.device, non_blocking=True)[:, :, None, None]
    return noisy.round_().clamp_(0, 255).to(images.dtype)
