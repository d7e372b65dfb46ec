"""Random resized crop: a classifier should know a thing whether it fills the picture or a corner of it.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich, "Going Deeper with Convolutions", 2015,
arXiv:1409.4842, section 6: patches whose size is distributed evenly between 8 % and 100 % of the picture's area, with
an aspect ratio chosen randomly between 3/4 and 4/3.

Departures: the ratio's logarithm is uniform, so that 3/4 and 4/3 are as likely (as in torchvision); the paper does not
say. It draws the interpolation method too; here it is bilinear, antialiased.
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from dl_zoo.errors import UserError
from dl_zoo.regularizers.resample import Span, check_size, placed, resample

TRIES = 10  # of 32-pixel pictures one box in nine does not fit, so all ten fail once in 10^9


def random_resized_crop(
    images: Tensor, generator: Generator, size: int | None, area: Sequence[float], ratio: Sequence[float]
) -> Tensor:
    """Of each of (B, C, H, W) uint8 a random box of whole pixels, brought to (B, C, size, size).

    The draws are the generator's, on the CPU; the pictures may be elsewhere.

    Args:
        size: of the result, in pixels; None: the pictures' own.
        area: least and greatest share of the picture's area.
        ratio: least and greatest width / height.
    Raises:
        UserError: for numbers that make no box.

    >>> images = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8).expand(64, 3, 32, 32)
    >>> crops = random_resized_crop(images, Generator().manual_seed(0), size=24, area=(0.08, 1), ratio=(3 / 4, 4 / 3))
    >>> crops.shape, len(crops.unique(dim=0))
    (torch.Size([64, 3, 24, 24]), 64)
    """
    check_size("random_resized_crop", size)
    for name, (low, high), most in (("area", area, 1.0), ("ratio", ratio, math.inf)):
        if not 0 < low <= high <= most:
            raise UserError(f"regularizer.random_resized_crop.{name}=[{low}, {high}]: must be [least, greatest]")
    height, width = images.shape[2:]
    down, across = boxes(len(images), height, width, generator, area, ratio)
    return resample(images, down, across, size or height, size or width, inside=True)


def boxes(
    count: int, height: int, width: int, generator: Generator, area: Sequence[float], ratio: Sequence[float]
) -> tuple[Span, Span]:
    """Rows and columns of each box: the first of ten draws that fits into the picture, else the whole picture."""
    size, shape, y, x = torch.rand(4, TRIES, count, generator=generator, dtype=torch.float64)
    pixels = height * width * (area[0] + size * (area[1] - area[0]))
    aspect = (math.log(ratio[0]) + shape * math.log(ratio[1] / ratio[0])).exp()
    h, w = (pixels / aspect).sqrt().round(), (pixels * aspect).sqrt().round()  # (TRIES, B)
    fits = (h >= 1) & (h <= height) & (w >= 1) & (w <= width)
    first = fits.int().argmax(0, keepdim=True)  # of equal ones the first
    found = fits.any(0)
    h, w, y, x = (each.gather(0, first)[0] for each in (h, w, y, x))  # (B,)
    h, w = h.where(found, torch.tensor(float(height))), w.where(found, torch.tensor(float(width)))
    return (placed(height - h, y), h), (placed(width - w, x), w)
