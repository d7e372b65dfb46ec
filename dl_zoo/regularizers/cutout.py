"""Cutout: hide a square of each picture, so that no single part of it can be relied upon.

DeVries, Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017, arXiv:1708.04552,
section 3: the centre is uniform over the picture, so that squares may hang over the edge; this did better than squares
that lie within.

Departure: the paper hides after normalisation, where 0 is the mean pixel; here 0 is black, the background of digits.
"""

import torch
from torch import Generator, Tensor

from dl_zoo.errors import UserError


def cutout(images: Tensor, generator: Generator, size: int) -> Tensor:
    """Each of (B, C, H, W) with one square of `size` pixels a side set to 0, in all channels.

    The draws are the generator's, on the CPU; the pictures may be elsewhere. UserError unless size is at least 1.

    >>> cut = cutout(torch.ones(200, 1, 4, 6, dtype=torch.uint8), Generator().manual_seed(0), size=2)
    >>> (cut == 0).sum((1, 2, 3)).unique()  # in a corner, at an edge, within
    tensor([1, 2, 4])
    """
    if not isinstance(size, int) or size < 1:
        raise UserError(f"regularizer.cutout.size={size}: must be a whole number of at least 1")
    count, _, height, width = images.shape
    rows = hidden(height, size, torch.randint(height, (count, 1), generator=generator))  # (B, H)
    columns = hidden(width, size, torch.randint(width, (count, 1), generator=generator))  # (B, W)
    square = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, H, W)
    return images.masked_fill(square.to(images.device), 0)


def hidden(length: int, size: int, centre: Tensor) -> Tensor:
    """Which of `length` places the `size` around each centre (B, 1) take up: (B, length), true where they do."""
    start = centre - size // 2
    places = torch.arange(length)
    return (start <= places) & (places < start + size)
