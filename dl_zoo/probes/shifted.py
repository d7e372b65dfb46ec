"""How far a classifier and its features mind that the picture moves.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86(11), 1998,
section II-A: a dense net would have to learn a stroke anew at each place; convolutions move with the picture, and
subsampling makes the exact place matter less.

Between the pixels of a pool's grid the second is not exact (Zhang, "Making Convolutional Networks Shift-Invariant
Again", ICML 2019, arXiv:1904.11486): the change by one pixel is measured beside that of the same features subsampled
without pooling.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.errors import UserError

SMALLEST = 1e-9  # of a drop whose logarithm is taken
POOLS = (nn.MaxPool2d, nn.AvgPool2d)


@torch.no_grad()
def shifted(task: Any, data: Any, *, pixels: int = 4) -> dict[str, float]:
    """Accuracy on validation pictures, still and moved by draws of up to `pixels` in x and y; and how features change.

        shifted/acc, acc_moved     fractions
        shifted/drop, log_drop     acc - acc_moved, and its log10; a drop below SMALLEST counts as that
        shifted/change_pooled      mean |f(moved x) - f(x)| / |f(x)| over pictures x, moved one pixel to the right, and
                                   over pools, f what a pool gives
        shifted/change_strided     the same, f the pool's input at every s-th pixel, s its stride

    The changes are left out for a net that holds no MaxPool2d or AvgPool2d. What moves in is black, the background of
    digits: the smallest value of each channel. What moves out is lost.

    Raises:
        UserError: `pixels` below 1, or inputs that are no pictures.
    """
    if pixels < 1:
        raise UserError(f"pixels={pixels}: must be at least 1")
    device = next(task.net.parameters()).device
    right, moved_right, items = 0, 0, 0
    changes: dict[str, list[Tensor]] = {"pooled": [], "strided": []}  # of each pool and batch
    for batch in data.loader("val"):
        if not isinstance(batch[0], Tensor) or batch[0].dim() != 4:
            raise UserError("it moves pictures, and these data have none")
        inputs, targets = batch[0].to(device), batch[1].to(device)
        draws = torch.randint(-pixels, pixels + 1, (2, len(inputs)))
        with pooled(task.net) as still:
            right += int((task.net(inputs).argmax(1) == targets).sum())
        moved_right += int((task.net(moved(inputs, draws)).argmax(1) == targets).sum())
        with pooled(task.net) as by_one:
            task.net(moved(inputs, torch.tensor([[0], [1]]).expand(2, len(inputs))))
        for before, after in zip(still, by_one, strict=True):
            for kind, so_far in changes.items():
                so_far.append(change(before[kind], after[kind]))
        items += len(targets)
    drop = (right - moved_right) / items
    found = {"acc": right / items, "acc_moved": moved_right / items, "drop": drop}
    found["log_drop"] = math.log10(max(SMALLEST, drop))
    if changes["pooled"]:
        found |= {f"change_{kind}": float(torch.stack(each).mean()) for kind, each in changes.items()}
    return {f"shifted/{name}": value for name, value in found.items()}


def moved(images: Tensor, by: Tensor) -> Tensor:
    """(B, C, H, W), each moved by its column of `by` (2, B), pixels down and right.

    >>> moved(torch.arange(9.0).view(1, 1, 3, 3), torch.tensor([[1], [-1]]))[0, 0]
    tensor([[0., 0., 0.],
            [1., 2., 0.],
            [4., 5., 0.]])
    """
    count, _, height, width = images.shape
    by = by.to(images.device)
    far = int(by.abs().max())
    background = images.amin(dim=(0, 2, 3), keepdim=True)  # (1, C, 1, 1)
    padded = F.pad(images - background, [far] * 4) + background
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view, (B, C, 2 far + 1, 2 far + 1, H, W)
    return windows[torch.arange(count, device=images.device), :, far - by[0], far - by[1]]


def change(before: Tensor, after: Tensor) -> Tensor:
    """|after - before| / |before|, (B, ...) -> the mean over the batch."""
    size = before.flatten(1).norm(dim=1).clamp_min(SMALLEST)
    return ((after - before).flatten(1).norm(dim=1) / size).mean()


@contextmanager
def pooled(net: nn.Module) -> Iterator[list[dict[str, Tensor]]]:
    """While open, every pool that is called leaves its output, and its input at every s-th pixel, in their order."""
    seen: list[dict[str, Tensor]] = []

    def note(pool: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        stride = pool.stride if isinstance(pool.stride, tuple) else (pool.stride, pool.stride)
        seen.append({"pooled": output, "strided": inputs[0][:, :, :: stride[0], :: stride[1]]})

    hooks = [module.register_forward_hook(note) for module in net.modules() if isinstance(module, POOLS)]
    try:
        yield seen
    finally:
        for each in hooks:
            each.remove()
