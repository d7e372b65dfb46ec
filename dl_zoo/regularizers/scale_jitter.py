"""Scale jitter: the same thing large and small, and from near and far all of it sharp.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015, arXiv:1409.1556,
section 3.1: each training picture is rescaled so that its shorter side is S, drawn evenly from 256 to 512 pixels, and a
224 x 224 crop is taken at a random place. As multiples of the crop: 256 / 224 = 1.143 to 512 / 224 = 2.286.

Departure: a crop is taken of the picture as it is stored, so what is stored at 256 pixels is blurred at S = 512;
data.resize=512 keeps the detail, at four times the room.
"""

import torch
from torch import Generator, Tensor

from dl_zoo.errors import UserError
from dl_zoo.regularizers.resample import check_size, placed, resample


def scale_jitter(images: Tensor, generator: Generator, size: int | None, lower: float, upper: float) -> Tensor:
    """Each of (B, C, H, W) uint8 rescaled, and of it a random window: (B, C, size, size).

    The draws are the generator's, on the CPU; the pictures may be elsewhere.

    Args:
        size: of the result, in pixels; None: the pictures' own.
        lower, upper: the rescaled picture's shorter side is drawn evenly between these multiples of the result's.
    Raises:
        UserError: unless 1 <= lower <= upper, since the window lies in the picture.

    >>> images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8).expand(32, 3, 64, 64)
    >>> crops = scale_jitter(images, Generator().manual_seed(0), size=56, lower=1.143, upper=2.286)
    >>> crops.shape, len(crops.unique(dim=0))
    (torch.Size([32, 3, 56, 56]), 32)
    """
    check_size("scale_jitter", size)
    if not 1 <= lower <= upper < float("inf"):
        raise UserError(f"regularizer.scale_jitter: lower={lower}, upper={upper}: must be 1 <= lower <= upper")
    height, width = images.shape[2:]
    out_height, out_width = size or height, size or width
    scale, y, x = torch.rand(3, len(images), generator=generator, dtype=torch.float64)
    side = min(out_height, out_width) * (lower + scale * (upper - lower))
    h, w = ((side * length / min(height, width)).round() for length in (height, width))  # of the rescaled picture
    top, left = placed(h - out_height, y), placed(w - out_width, x)  # in its pixels
    down = top * height / h, out_height * height / h  # in those of the stored one
    across = left * width / w, out_width * width / w
    return resample(images, down, across, out_height, out_width, inside=False)
