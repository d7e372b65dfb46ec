"""The next steps of a series: the error of the forecast, and of those that cost nothing, on the same windows."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks.language_modelling import logits_of
from dl_zoo.tasks.task import Measured, Task

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


class Forecasting(Task):
    """Batches `(inputs (B, T, F), targets (B, H, K))`; the first K columns of the inputs are those of the targets.

    The net gives (B, H, K), or that with a state. Metrics, as means over windows, steps and columns, in the units of
    the data, which are scaled: `loss`; `mse` and `mae`, the squared and the absolute error; and the mean squared errors
    of two who do not learn, `repeat_last`, which says the last value again, and `repeat_yesterday`, the last season.

    Args:
        loss: mse, mae (the median is then the best answer) or huber.
        season: steps; 0: without `repeat_yesterday`.
    """

    def __init__(self, *arguments: Any, loss: str = "mse", season: int = 24, **settings: Any):
        super().__init__(*arguments, **settings)
        if loss not in LOSSES:
            raise UserError(f"task.loss={loss}: must be one of {', '.join(LOSSES)}")
        if not isinstance(season, int) or season < 0:
            raise UserError(f"task.season={season}: must be a whole number of steps, or 0")
        self.loss, self.season = LOSSES[loss], season

    def measure(self, batch: tuple[Tensor, Tensor]) -> Measured:
        inputs, targets = batch
        outputs = logits_of(self.net(inputs))
        loss, shown, count = self.loss(outputs, targets), outputs.detach().float(), targets.numel()
        sums = {"loss": loss.detach() * count, "mse": squared(shown, targets), "mae": (shown - targets).abs().sum()}
        seen = inputs[:, :, : targets.shape[2]]
        sums["repeat_last"] = squared(repeated(seen, targets.shape[1], 1), targets)
        if self.season:
            sums["repeat_yesterday"] = squared(repeated(seen, targets.shape[1], self.season), targets)
        return Measured(loss, sums, count, shown)


def squared(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().sum()


def repeated(x: Tensor, horizon: int, season: int) -> Tensor:
    """The last `season` steps of (B, T, K), again and again: (B, horizon, K). UserError where there are not so many."""
    if x.shape[1] < season:
        raise UserError(
            f"task.season={season}: the net sees {x.shape[1]} steps; set data.context={season} or task.season=0"
        )
    return x[:, torch.arange(horizon, device=x.device) % season - season]
