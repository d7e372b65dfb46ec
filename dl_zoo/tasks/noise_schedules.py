"""How much of the data is left after each step of diffusion: a-bar, the product of (1 - beta_s) for s = 1 .. t."""

import torch
from torch import Tensor

from dl_zoo.errors import UserError

SCHEDULES = ("linear", "cosine")
TUNED = 1000  # steps that the papers' numbers are for


def scheduled(schedule: str, steps: int, first: float, last: float) -> Tensor:
    """a-bar (steps + 1,) float64, the first 1; `first` and `last` are of the linear one alone. UserError."""
    if schedule not in SCHEDULES:
        raise UserError(f"task.schedule={schedule}: must be one of {', '.join(SCHEDULES)}")
    if not isinstance(steps, int) or steps < 2:
        raise UserError(f"task.steps={steps}: must be a whole number from 2 on")
    return linear(steps, first, last) if schedule == "linear" else cosine(steps)


def linear(steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Ho, Jain, Abbeel 2020, arXiv:2006.11239, section 4: variances from `first` to `last`. (steps + 1,), float64.

    These are of 1,000 steps. With fewer, each beta is as many times larger (x 1000 / steps), so that their sum, and
    with it what is left at the end, stays about the same: a-bar is 4e-5 after 1,000 steps and 2e-5 after 100.

    >>> [round(float(linear(steps)[-1]) * 1e5, 1) for steps in (1000, 100)]
    [4.0, 2.1]
    """
    if not 0 < first <= last:
        raise UserError(f"task.beta_first={first}, task.beta_last={last}: must be above 0, and the last no smaller")
    betas = torch.linspace(first, last, steps, dtype=torch.float64) * TUNED / steps
    if betas[-1] >= 1:
        most = f"task.beta_last={last} is {float(betas[-1]):g} in {steps} steps, and a variance must be below 1"
        raise UserError(f"{most}; more task.steps, or task.schedule=cosine")
    return torch.cat([betas.new_ones(1), (1 - betas).cumprod(0)])


def cosine(steps: int, offset: float = 0.008, most: float = 0.999) -> Tensor:
    """Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.2: a-bar_t = f(t) / f(0). (steps + 1,), float64.

    f(t) = cos^2((t / steps + offset) / (1 + offset) pi / 2), with no beta above `most`.

    >>> round(float(cosine(100)[50]), 3)
    0.494
    """
    share = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = ((share + offset) / (1 + offset) * torch.pi / 2).cos().square()
    betas = (1 - f[1:] / f[:-1]).clamp(max=most)
    return torch.cat([f.new_ones(1), (1 - betas).cumprod(0)])
