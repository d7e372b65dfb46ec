"""How much noise each step of diffusion adds: its variances beta_1 .. beta_T, in double, whatever torch's device is."""

from itertools import pairwise
from math import cos, pi

from dl_zoo.errors import UserError

SCHEDULES = ("linear", "cosine")
TUNED = 1000  # steps that the papers' numbers are for


def scheduled(schedule: str, steps: int, first: float, last: float) -> list[float]:
    """One of `SCHEDULES`; `first` and `last` are of the linear one alone. UserError: no such one, or wrong numbers."""
    if schedule not in SCHEDULES:
        raise UserError(f"task.schedule={schedule}: must be one of {', '.join(SCHEDULES)}")
    if not isinstance(steps, int) or steps < 2:
        raise UserError(f"task.steps={steps}: must be a whole number from 2 on")
    return linear(steps, first, last) if schedule == "linear" else cosine(steps)


def linear(steps: int, first: float = 1e-4, last: float = 0.02) -> list[float]:
    """Ho, Jain, Abbeel 2020, arXiv:2006.11239, section 4: variances from `first` to `last`.

    These are of 1,000 steps. With fewer, each beta is as many times larger (x 1000 / steps), so that their sum, and
    with it what is left at the end, a-bar_T, stays about the same:

    >>> from math import prod
    >>> [round(prod(1 - beta for beta in linear(steps)) * 1e5, 1) for steps in (1000, 100)]
    [4.0, 2.0]
    """
    if not 0 < first <= last:
        raise UserError(f"task.beta_first={first}, task.beta_last={last}: must be above 0, and the last no smaller")
    if last * TUNED / steps >= 1:
        most = f"task.beta_last={last} is {last * TUNED / steps:g} in {steps} steps, and a variance must be below 1"
        raise UserError(f"{most}; more task.steps, or task.schedule=cosine")
    return [(first + (last - first) * t / (steps - 1)) * TUNED / steps for t in range(steps)]


def cosine(steps: int, offset: float = 0.008, most: float = 0.999) -> list[float]:
    """Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.2: a-bar_t = f(t) / f(0).

    f(t) = cos^2((t / steps + offset) / (1 + offset) pi / 2), with no beta above `most`.

    >>> from math import prod
    >>> round(prod(1 - beta for beta in cosine(100)[:50]), 3)  # half way
    0.494
    """
    f = [cos((t / steps + offset) / (1 + offset) * pi / 2) ** 2 for t in range(steps + 1)]
    return [min(1 - after / before, most) for before, after in pairwise(f)]
