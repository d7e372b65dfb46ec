"""CutMix: paste a box of another picture, and share the target out by area.

Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
ICCV 2019, arXiv:1905.04899, section 3.1 and algorithm A1. No pixel is wasted as under Cutout, and none is unnatural
as under mixup.
"""

import math

import torch
from torch import Generator, Tensor

from dl_zoo.errors import UserError
from dl_zoo.regularizers.mixup import beta


def cutmix(inputs: Tensor, targets: Tensor, generator: Generator, alpha: float) -> tuple[Tensor, Tensor]:
    """Pictures (B, C, H, W) with one box, the same for the batch, of a random partner; targets (B, K) by area.

    The box has the picture's proportions, 1 - lambda of its area with lambda ~ Beta(alpha, alpha), and a centre uniform
    over it. What hangs over the edge is cut off, so the targets' shares are those of the area that is left.

    The draws are the generator's, on the CPU; the tensors may be elsewhere. UserError unless alpha is above 0 and the
    inputs are pictures.

    >>> inputs, targets = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 8), torch.eye(2)
    >>> mixed, shares = cutmix(inputs, targets, Generator().manual_seed(0), alpha=1.0)
    >>> torch.equal(mixed.mean((1, 2, 3)), shares[:, 1])
    True
    """
    if inputs.dim() != 4:
        shape = tuple(inputs.shape)
        raise UserError(f"regularizer=cutmix pastes into pictures (B, C, H, W), but the inputs are {shape}; use mixup")
    height, width = inputs.shape[2:]
    side = math.sqrt(1 - beta(alpha, generator))
    y, x = torch.rand(2, generator=generator).tolist()
    rows, columns = span(height, y, side), span(width, x, side)
    partner = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    mixed = inputs.clone()
    mixed[:, :, rows, columns] = inputs[partner, :, rows, columns]
    kept = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, targets[partner].lerp(targets, kept)


def span(length: int, centre: float, side: float) -> slice:
    """The whole places, of `length`, that a side around a centre covers, both as shares of the length.

    >>> span(10, 0.5, 0.4), span(10, 0.9, 0.4)
    (slice(3, 7, None), slice(7, 10, None))
    """
    return slice(round(length * max(0.0, centre - side / 2)), round(length * min(1.0, centre + side / 2)))
