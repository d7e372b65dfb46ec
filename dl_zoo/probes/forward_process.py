"""The forward chain of diffusion, gone step by step, beside the closed form that training uses.

Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", 2020, arXiv:2006.11239, eq. 2 and 4. A step

    x_t = sqrt(1 - beta_t) x_(t-1) + sqrt(beta_t) eps

multiplies what is left of x_0 by sqrt(1 - beta_t), and makes a variance v of noise (1 - beta_t) v + beta_t. After t
steps they are sqrt(a_t) and 1 - a_t, so training need not walk there.
"""

from typing import Any

import torch

from dl_zoo.errors import UserError


def forward_process(task: Any, data: Any, *, shrink: bool = True) -> dict[str, float]:
    """Over all steps, what the chain says against what `task.noised` does, and what is left at the end.

        forward_mean        largest difference of the factor of x_0
        forward_variance    largest difference of the noise's variance
        signal_left         factor of x_0 after the last step; samples start from noise alone, as if it were 0

    Args:
        shrink: without it the chain only adds noise, so that its variance grows without a bound.
    Raises:
        UserError: the task is no diffusion.
    """
    if not hasattr(task, "noised"):
        raise UserError("probe=forward_process: only task=diffusion has a forward chain")
    steps = torch.arange(1, task.steps + 1, device=task.device)
    one, none = (torch.full((task.steps, 1), value, device=task.device) for value in (1.0, 0.0))
    factors, deviations = task.noised(one, steps, none), task.noised(none, steps, one)  # (T, 1) each
    factor, variance, off = 1.0, 0.0, (0.0, 0.0)
    for t, beta in enumerate(task.betas):
        keeps = 1 - beta if shrink else 1.0
        factor, variance = factor * keeps**0.5, variance * keeps + beta
        differences = abs(factor - float(factors[t])), abs(variance - float(deviations[t]) ** 2)
        off = max(off[0], differences[0]), max(off[1], differences[1])
    return {"forward_mean": off[0], "forward_variance": off[1], "signal_left": float(factors[-1])}
