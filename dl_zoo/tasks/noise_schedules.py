"""How much noise each step of diffusion adds: its variances beta_1 .. beta_T, as (T,) float64."""

import torch
from torch import Tensor

from dl_zoo.errors import UserError

SCHEDULES = ("linear", "cosine")
TUNED = 1000  # steps that the papers' numbers are for


def scheduled(schedule: str, steps: int, first: float, last: float) -> Tensor:
    """One of `SCHEDULES`; `first` and `last` are of the linear one alone. UserError: no such one, or wrong numbers."""
    if schedule not in SCHEDULES:
        raise UserError(f"task.schedule={schedule}: must be one of {', '.join(SCHEDULES)}")
    if not isinstance(steps, int) or steps < 2:
        raise UserError(f"task.steps={steps}: must be a whole number from 2 on")
    return linear(steps, first, last) if schedule == "linear" else cosine(steps)


def linear(steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Ho, Jain, Abbeel 2020, arXiv:2006.11239, section 4: variances from `first` to `last`.

    These are of 1,000 steps. With fewer, each beta is as many times larger (x 1000 / steps), so that their sum, and
    with it what is left at the end, a-bar_T, stays about the same:

    >>> [round(float((1 - linear(steps)).prod()) * 1e5, 1) for steps in (1000, 100)]
    [4.0, 2.0]
    """
    if not 0 < first <= last:
        raise UserError(f"task.beta_first={first}, task.beta_last={last}: must be above 0, and the last no smaller")
    betas = torch.linspace(first, last, steps, dtype=torch.float64) * TUNED / steps
    if betas[-1] >= 1:
        most = f"task.beta_last={last} is {float(betas[-1]):g} in {steps} steps, and a variance must be below 1"
        raise UserError(f"{most}; more task.steps, or task.schedule=cosine")
    return betas


def cosine(steps: int, offset: float = 0.008, most: float = 0.999) -> Tensor:
    """Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.2: a-bar_t = f(t) / f(0).

    f(t) = cos^2((t / steps + offset) / (1 + offset) pi / 2), with no beta above `most`.

    >>> round(float((1 - cosine(100)[:50]).prod()), 3)  # half way
    0.494
    """
    share = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = ((share + offset) / (1 + offset) * torch.pi / 2).cos().square()
    return (1 - f[1:] / f[:-1]).clamp(max=most)
