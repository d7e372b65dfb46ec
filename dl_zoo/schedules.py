"""Learning-rate schedules over the share of training done; each returns a torch scheduler stepped every batch.

All lengths are shares of the run's `total_steps` optimizer steps, and each schedule multiplies every group's own
learning rate by the same factor, whose peak is 1. Step 0 is the first one. A number out of its range is a UserError.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from dl_zoo.errors import UserError

# ---- factors of the step alone -----------------------------------------------------------------------------------


def climb_factor(step: int, total_steps: int, warmup: float) -> float:
    """The shared warm-up: 1/w, 2/w, ..., 1 over the first w = `warmup` * `total_steps` steps, at least one; then 1.

    >>> [climb_factor(t, 100, warmup=0.04) for t in (0, 1, 2, 3, 99)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / warmup_steps(total_steps, warmup))


def warmup_steps(total_steps: int, warmup: float) -> int:
    return max(1, round(warmup * total_steps))


def cosine_factor(step: int, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> float:
    """Learning rate at `step` as a share of the base rate: a linear climb over `warmup`, then half a cosine to `final`.

    Loshchilov and Hutter, "SGDR", 2017, equation 5: eta_t = eta_min + (1 - eta_min) (1 + cos(pi t / T)) / 2.

    >>> [round(cosine_factor(t, 100), 3) for t in (0, 50, 100)]
    [1.0, 0.5, 0.0]
    >>> [round(cosine_factor(t, 100, warmup=0.1, final=0.01), 3) for t in (0, 4, 9, 100)]
    [0.1, 0.5, 1.0, 0.01]
    """
    start = round(warmup * total_steps)
    done = min(1.0, max(0, step - start) / max(1, total_steps - start))
    return climb_factor(step, total_steps, warmup) * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


def step_factor(
    step: int, total_steps: int, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1, warmup: float = 0.0
) -> float:
    """`gamma` to the power of the milestones reached, after a linear climb over `warmup`.

    >>> [round(step_factor(t, 64), 3) for t in (0, 31, 32, 47, 48, 63)]
    [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    """
    reached = sum(step >= round(milestone * total_steps) for milestone in milestones)
    return climb_factor(step, total_steps, warmup) * gamma**reached


def inverse_sqrt_factor(step: int, total_steps: int, warmup: float = 0.04) -> float:
    """min(t / w, sqrt(w / t)) at t = step + 1: up linearly to 1 at t = w, then down as 1 / sqrt(t).

    >>> [inverse_sqrt_factor(t, 100) for t in (0, 3, 15, 99)]
    [0.25, 1.0, 0.5, 0.2]
    """
    return climb_factor(step, total_steps, warmup) * min(1.0, math.sqrt(warmup_steps(total_steps, warmup) / (step + 1)))


# ---- schedules ---------------------------------------------------------------------------------------------------


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LRScheduler:
    check_shares(warmup=warmup, final=final)
    return scaled(optimizer, cosine_factor, total_steps=total_steps, warmup=warmup, final=final)


def step(
    optimizer: Optimizer,
    total_steps: int,
    milestones: Sequence[float] = (0.5, 0.75),
    gamma: float = 0.1,
    warmup: float = 0.0,
) -> LRScheduler:
    """Constant, and `gamma` times as much from each milestone on.

    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385, section 4.2: divided
    by 10 after 32,000 and 48,000 of 64,000 steps. Their net of 110 layers starts with a tenth of the rate for some 400
    steps; `warmup` climbs instead.
    """
    check_shares(warmup=warmup, gamma=gamma, **{f"milestones[{i}]": share for i, share in enumerate(milestones)})
    return scaled(
        optimizer, step_factor, total_steps=total_steps, milestones=tuple(milestones), gamma=gamma, warmup=warmup
    )


def warmup(optimizer: Optimizer, total_steps: int, warmup: float = 0.05) -> LRScheduler:
    """Constant after a linear climb.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677, section 2.2: 5 epochs of 90. They climb from
    the rate of one worker, here it is from 1 / w in w steps.
    """
    check_shares(warmup=warmup)
    return scaled(optimizer, climb_factor, total_steps=total_steps, warmup=warmup)


def inverse_sqrt(optimizer: Optimizer, total_steps: int, warmup: float = 0.04) -> LRScheduler:
    """Up linearly, then down as one over the square root of the step.

    Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, eq. 3, with t from 1 and w = 4,000 of 100,000:

        lr = d_model^-0.5 min(t^-0.5, t w^-1.5) = (d_model w)^-0.5 min(sqrt(w / t), t / w)

    The optimizer's rate is the peak, the first factor: (512 * 4000)^-0.5 = 6.99e-4 gives the paper's numbers.
    """
    check_shares(warmup=warmup)
    return scaled(optimizer, inverse_sqrt_factor, total_steps=total_steps, warmup=warmup)


def onecycle(optimizer: Optimizer, total_steps: int, peak_at: float = 0.3) -> LRScheduler:
    """Smith and Topin 2018: from 1/25 of the base rate up to it, then down by 1e4; momentum moves the other way.

    Momentum, or Adam's beta1, moves between 0.95 and 0.85 where every group has one; plain SGD stays plain.
    """
    check_shares(peak_at=peak_at)
    if peak_at == 1:
        raise UserError("scheduler.peak_at=1: must be below 1, to leave steps for the way down")
    climb = float(peak_at) if peak_at * total_steps > 1 else 0.0  # torch divides by its steps less one
    peaks = [group["lr"] for group in optimizer.param_groups]
    cycle_momentum = all(momentum(group) > 0 for group in optimizer.param_groups)
    return OneCycleLR(optimizer, peaks, total_steps=total_steps, pct_start=climb, cycle_momentum=cycle_momentum)


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    monitor: str = "val/loss",
    mode: Literal["min", "max"] = "min",
    factor: float = 0.1,
    patience: int = 5,
    threshold: float = 1e-4,
) -> "Plateau":
    """Constant, and `factor` times as much each time that a metric has stopped improving.

    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 5:
    divided by 10 when the validation error stopped improving, by hand. `patience` is ours. The one schedule that does
    not look at `total_steps`.

    Args:
        monitor: the metric, as it is logged.
        mode: whether "min" or "max" of it is best; else ValueError.
        factor: from 0 to below 1.
        patience: epochs without improvement that are borne; one more reduces the rate.
        threshold: an improvement is one by more than this share of the best value.
    """
    check_shares(factor=factor, threshold=threshold)
    if patience < 0:
        raise UserError(f"scheduler.patience={patience}: must be a number of epochs, at least 0")
    inner = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience, threshold=threshold)
    return Plateau(inner, monitor)


class Plateau(LRScheduler):
    """torch's ReduceLROnPlateau, told of each epoch's metrics by the task.

    Lightning steps a ReduceLROnPlateau itself, after the checkpoint of the epoch's end, so that a resumed run would
    miss that step. This one is none, only holds one: to Lightning it is a scheduler like others, whose step does
    nothing. The reduced rates themselves are saved with the optimizer.
    """

    def __init__(self, inner: ReduceLROnPlateau, monitor: str):
        # LRScheduler's own __init__ is for rates that follow from the step: it would take charge of them.
        self.optimizer = inner.optimizer
        self.inner, self.monitor = inner, monitor

    def step(self, epoch: int | None = None) -> None:
        """A batch is over: nothing to do."""

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """An epoch is over: reduce the rates if its metrics call for it. To be called before its checkpoint.

        Raises:
            UserError: `monitor` is not among the metrics.
        """
        if self.monitor not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            raise UserError(f"scheduler.monitor={self.monitor}: there is no such metric; there are {known}")
        self.inner.step(float(metrics[self.monitor]))

    def get_last_lr(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict)


# ---- what they share ---------------------------------------------------------------------------------------------


def scaled(optimizer: Optimizer, factor: Callable[..., float], **numbers: Any) -> LRScheduler:
    return LambdaLR(optimizer, partial(factor, **numbers))


def check_shares(**numbers: float) -> None:
    """
    >>> check_shares(warmup=500)
    Traceback (most recent call last):
    dl_zoo.errors.UserError: scheduler.warmup=500: must be a share, from 0 to 1
    """
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not 0 <= number <= 1:
            raise UserError(f"scheduler.{name}={number}: must be a share, from 0 to 1")


def momentum(group: Mapping[str, Any]) -> float:
    """Of one of an optimizer's groups, 0 where it has none.

    >>> momentum({"lr": 0.1, "momentum": 0.9}), momentum({"lr": 0.1, "betas": (0.8, 0.999)}), momentum({"lr": 0.1})
    (0.9, 0.8, 0)
    """
    return group["betas"][0] if "betas" in group else group.get("momentum", 0)
