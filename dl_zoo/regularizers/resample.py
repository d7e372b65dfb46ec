"""A box of each picture of a batch, brought to one size: every picture has a box of its own, and none is looped over.

Bilinear interpolation with antialiasing is linear in the pixels and separable, so a box's rows and columns are two
small matrices, and a batch of boxes two batched matrix products. `grid_sample` would do without the matrices, but
reads four pixels wherever it looks, which aliases as soon as a picture becomes smaller.
"""

import torch
from torch import Tensor

from dl_zoo.errors import UserError

Span = tuple[Tensor, Tensor]  # of each picture along one side: where its box begins and how long it is, in pixels


def resample(images: Tensor, down: Span, across: Span, height: int, width: int, inside: bool) -> Tensor:
    """(B, C, H, W) uint8 -> (B, C, height, width) uint8, rounded. Spans are float (B,) on the CPU.

    `inside`: only the box's own pixels count, as where it is cut out first and resized then; else also those just
    outside it, as where the whole picture is resized first and cut then. Boxes lie in the picture.
    """
    count, channels, *_ = images.shape
    y, x, h, w = (
        torch.stack([down[0], across[0], down[1], across[1]]).float().to(images.device, non_blocking=True)
    )  # (B,) each
    rows = shares(y, h, height, images.shape[2], inside)  # (B, height, H)
    columns = shares(x, w, width, images.shape[3], inside)  # (B, width, W)
    pixels = images.permute(0, 2, 1, 3).float().contiguous()  # (B, H, C, W)
    pixels = pixels.flatten(1, 2) @ columns.transpose(1, 2)  # (B, H * C, width)
    pixels = rows @ pixels.view(count, -1, channels * width)  # (B, height, C * width)
    pixels = pixels.round_().clamp_(0, 255).to(images.dtype)
    return pixels.view(count, height, channels, width).permute(0, 2, 1, 3).contiguous()


def shares(start: Tensor, extent: Tensor, size: int, length: int, inside: bool) -> Tensor:
    """(B, size, length): what each of `length` pixels adds to each of `size`, which divide `extent` from `start` on.

    A triangle about the middle of what the new pixel covers, 1 old pixel to either side or, where pixels become fewer,
    the width of 1 new one; each row sums to 1.

    >>> shares(torch.tensor([1.0]), torch.tensor([2.0]), 4, 4, inside=True)[0]
    tensor([[0.0000, 1.0000, 0.0000, 0.0000],
            [0.0000, 0.7500, 0.2500, 0.0000],
            [0.0000, 0.2500, 0.7500, 0.0000],
            [0.0000, 0.0000, 1.0000, 0.0000]])
    """
    start, extent = start.view(-1, 1, 1), extent.view(-1, 1, 1)
    step = extent / size
    middle = start + (torch.arange(size, device=start.device).view(-1, 1) + 0.5) * step  # (B, size, 1)
    place = torch.arange(length, device=start.device) + 0.5
    share = (1 - (place - middle).abs() / step.clamp(min=1)).clamp(min=0)  # (B, size, length)
    if inside:
        share = share * ((place > start) & (place < start + extent))
    return share / share.sum(2, keepdim=True)


def placed(room: Tensor, draw: Tensor) -> Tensor:
    """A whole number of 0..room for each uniform draw in [0, 1), all as likely."""
    return (draw * (room + 1)).floor()


def check_size(name: str, size: int | None) -> None:
    if size is not None and (not isinstance(size, int) or size < 1):
        raise UserError(f"regularizer.{name}.size={size}: must be a whole number of at least 1, or null: as they come")
