"""Numbers for each item: mean squared error, beside that of who always says the mean; or Huber's loss."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks.language_modelling import logits_of
from dl_zoo.tasks.task import Measured, Task

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "huber": F.huber_loss}
MOMENTS = ("sum", "squares")  # of the targets


class Regression(Task):
    """Batches `(inputs, targets (B, D) float)`; the net gives (B, D), or that with a state.

    Metrics, as means over items and their D numbers: `loss`, what is minimised; `mse`, the squared error, where the
    loss is another; `mae`, the absolute one; `naive`, the squared error of the mean of all targets, the least that a
    constant can have; and `r2` = 1 - squared error / naive, the share of their variance that is explained.

    Args:
        loss: mse; or huber (Huber 1964, "Robust Estimation of a Location Parameter"): of an error e, e^2 / 2 up to
            |e| = `delta` and delta (|e| - delta / 2) beyond, so that an outlier pulls with bounded force.
        delta: of huber, in the units of the targets.
    """

    def __init__(self, *arguments: Any, loss: str = "mse", delta: float = 1.0, **settings: Any):
        super().__init__(*arguments, **settings)
        if loss not in LOSSES:
            raise UserError(f"task.loss={loss}: must be one of {', '.join(LOSSES)}")
        if not delta > 0:
            raise UserError(f"task.delta={delta}: must be above 0")
        self.squared = loss == "mse"
        self.loss = LOSSES[loss] if self.squared else partial(LOSSES[loss], delta=delta)

    def measure(self, batch: tuple[Any, Tensor]) -> Measured:
        inputs, targets = batch
        outputs = logits_of(self.net(*inputs) if isinstance(inputs, tuple | list) else self.net(inputs))
        if outputs.shape != targets.shape:
            wanted = f"{tuple(targets.shape)} of the targets; leave out model.num_classes"
            raise UserError(f"task=regression: the net's answers have the shape {tuple(outputs.shape)}, not {wanted}")
        loss, shown, count = self.loss(outputs, targets), outputs.detach().float(), targets.numel()
        sums = {"loss": loss.detach() * count, "mae": (shown - targets).abs().sum()}
        if not self.squared:
            sums["mse"] = (shown - targets).square().sum()
        sums |= {"sum": targets.sum(), "squares": targets.square().sum()}
        return Measured(loss, sums, count, shown)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        if not means:
            return means
        rest = {name: value for name, value in means.items() if name not in MOMENTS}
        naive = means["squares"] - means["sum"] ** 2
        return {**rest, "naive": naive, "r2": 1 - means.get("mse", means["loss"]) / max(naive, 1e-12)}

    def progress(self) -> dict[str, float]:
        return {name: value for name, value in super().progress().items() if name.split("/")[-1] not in MOMENTS}
