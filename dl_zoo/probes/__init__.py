"""Measurements of a net, at the start or the end of a run, which change nothing in it: functions of task and data."""

from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError


def first_items(data: Any, items: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first `items` of the training set, in order and unaugmented, as one batch; all where there are fewer.

    UserError unless `items` is at least 1.
    """
    if items < 1:
        raise UserError(f"items={items}: a probe needs at least 1")
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    missing = items
    for some, their in data.loader("train"):
        inputs.append(some[:missing])
        targets.append(their[:missing])
        missing -= len(inputs[-1])
        if missing == 0:
            break
    return torch.cat(inputs).to(device), torch.cat(targets).to(device)
