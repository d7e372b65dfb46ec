"""Random shift: a classifier of pictures should not care about a pixel or two to the side.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86(11), 1998,
section III-B: training on randomly distorted digits, translations among them, took LeNet-5 from 0.95 % error to 0.8 %.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from dl_zoo.errors import UserError


def shift(images: Tensor, generator: Generator, pixels: int) -> Tensor:
    """Each of (B, C, H, W) moved by its own draw of -pixels..pixels in x and in y, background (0) filled in.

    The draw is the generator's, on the CPU; the pictures may be elsewhere. One gather: every picture picks one of the
    (2 * pixels + 1)^2 windows of its padded self.

    >>> images = torch.full((64, 1, 8, 8), 255, dtype=torch.uint8)
    >>> moved = shift(images, Generator().manual_seed(0), pixels=2)
    >>> moved.shape, len(moved.unique(dim=0)) > 5
    (torch.Size([64, 1, 8, 8]), True)
    """
    if not isinstance(pixels, int) or pixels < 0:
        raise UserError(f"regularizer.shift.pixels={pixels}: must be a whole number of at least 0")
    count, _, height, width = images.shape
    down, across = torch.randint(2 * pixels + 1, (2, count), generator=generator).to(images.device)  # (B,) each
    padded = F.pad(images, [pixels] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view, (B, C, 2p+1, 2p+1, H, W)
    return windows[torch.arange(count, device=images.device), :, down, across]  # (B, C, H, W)
