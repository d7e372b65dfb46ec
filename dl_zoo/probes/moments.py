"""Do made-up items have the mean and the spread of real ones? For points whose law these two tell."""

from typing import Any

import torch

from dl_zoo.errors import UserError


@torch.no_grad()
def moments(task: Any, data: Any, *, items: int = 2000) -> dict[str, float]:
    """Over `items` samples and all of the test split, the worst over the coordinates:

        moments/mean    |mean of the samples - mean of the data|, in deviations of the data
        moments/spread  |log of the samples' deviation over the data's|

    Raises:
        UserError: a task that makes nothing up.
    """
    if not hasattr(task, "generate"):
        raise UserError("moments: this task makes nothing up")
    made = task.generate(task.noise(items, torch.Generator().manual_seed(0))).flatten(1).double()
    real = torch.cat([inputs.to(made.device).flatten(1) for inputs, _ in data.loader("test")]).double()
    offset = (made.mean(0) - real.mean(0)).abs() / real.std(0)
    return {
        "moments/mean": float(offset.max()),
        "moments/spread": float((made.std(0) / real.std(0)).log().abs().max()),
    }
