"""Learning-rate schedules over the share of training done; each returns a torch scheduler stepped every batch."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


def cosine_factor(step: int, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> float:
    """Learning rate at `step` as a share of the base rate: a linear climb over `warmup`, then half a cosine to `final`.

    Loshchilov and Hutter, "SGDR", 2017, equation 5: eta_t = eta_min + (1 - eta_min) (1 + cos(pi t / T)) / 2.

    >>> [round(cosine_factor(t, 100), 3) for t in (0, 50, 100)]
    [1.0, 0.5, 0.0]
    >>> [round(cosine_factor(t, 100, warmup=0.1, final=0.01), 3) for t in (0, 4, 9, 100)]
    [0.1, 0.5, 1.0, 0.01]
    """
    climb = round(warmup * total_steps)
    if step < climb:
        return (step + 1) / climb
    done = min(1.0, (step - climb) / max(1, total_steps - climb))
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LRScheduler:
    return LambdaLR(optimizer, partial(cosine_factor, total_steps=total_steps, warmup=warmup, final=final))


def onecycle(optimizer: Optimizer, total_steps: int, peak_at: float = 0.3) -> LRScheduler:
    """Smith and Topin 2018: from 1/25 of the base rate up to it, then down by 1e4; momentum moves the other way."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    has_momentum = all(group.get("momentum", True) for group in optimizer.param_groups)  # plain SGD stays plain
    return OneCycleLR(optimizer, peaks, total_steps=total_steps, pct_start=peak_at, cycle_momentum=has_momentum)
