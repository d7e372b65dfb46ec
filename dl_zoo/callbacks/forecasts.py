"""Forecasts in TensorBoard, beside what came: a few windows of validation while the net learns, and of test at the end.

Tags: `samples/forecasts`, about ten times a run, and `samples/test_forecasts`. The windows lie evenly over the split
and are the same each time. Of more columns than fit, the first ones.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dl_zoo.callbacks.figures import render, shorten
from dl_zoo.callbacks.maps import undisturbed
from dl_zoo.callbacks.pictures import draw, writers
from dl_zoo.callbacks.texts import is_shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOWS = 3
COLUMNS = 4  # of the series: 3 x 4 little charts are still legible


class Forecasts(Callback):
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:  # place: batch, and loader where there are several. The first: averaged weights, if any, are in the net
        if not any(place) and is_shown(trainer):
            show(trainer, pl_module, "val", "samples/forecasts")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        if not any(place) and writers(trainer):
            show(trainer, pl_module, "test", "samples/test_forecasts")


def show(trainer: Trainer, task: LightningModule, split: str, tag: str) -> None:
    """Draw, where the data are a series in columns."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    known = getattr(data, "normalisation", None) or {}
    if not hasattr(data, "horizon") or "targets" not in known:
        return
    inputs, targets = data.splits[split]
    index = torch.linspace(0, len(inputs) - 1, WINDOWS).long().to(inputs.device)
    x, y = (each.index_select(0, index).to(task.device) for each in (inputs, targets))
    net: Any = getattr(task.net, "_orig_mod", task.net)
    with undisturbed(net, task.device), torch.no_grad():
        answers = net(x)
    answers = answers[0] if isinstance(answers, tuple) else answers
    places = [f"{split} window {place + 1:,} of {len(inputs):,}" for place in index.tolist()]
    count = known["targets"]
    seen, truth, said = (unscaled(each.float().cpu(), known) for each in (x[:, :, :count], y, answers))
    draw(trainer, tag, render(figure(seen, said, known["columns"][:count], places, truth)))


def unscaled(values: Tensor, known: Mapping[str, Any]) -> Tensor:
    """(..., K) in the file's own units, float64: of a large number float32 keeps seven digits."""
    mean, std = (torch.tensor(known[key][: values.shape[-1]], dtype=torch.float64) for key in ("mean", "std"))
    return values.double() * std + mean


def figure(
    seen: Tensor, said: Tensor, names: Sequence[str], titles: Sequence[str], truth: Tensor | None = None
) -> "Figure":
    """Contexts (N, T, K), forecasts (N, H, K), and what came where that is known: a row a window, a chart a column."""
    from matplotlib.figure import Figure

    windows, shown = len(seen), min(COLUMNS, len(names))
    drawn = Figure((3.6 * shown + 0.4, 2.1 * windows + 0.5), dpi=100, layout="constrained")
    past, ahead = range(1 - seen.shape[1], 1), range(1, said.shape[1] + 1)
    for row in range(windows):
        for column in range(shown):
            axes = drawn.add_subplot(windows, shown, row * shown + column + 1)
            axes.plot(past, seen[row, :, column], color="0.55", linewidth=1, label="context")
            if truth is not None:
                axes.plot(ahead, truth[row, :, column], color="black", linewidth=1, label="what came")
            axes.plot(ahead, said[row, :, column], color="tab:orange", linewidth=1.5, label="forecast")
            axes.axvline(0.5, color="0.8", linewidth=0.8)
            axes.tick_params(labelsize=7)
            axes.set_title(f"{shorten(names[column], 20)}, {titles[row]}", fontsize=8, parse_math=False)
            if row == windows - 1:
                axes.set_xlabel("steps from the last one seen", fontsize=7)
    drawn.axes[0].legend(fontsize=7, loc="best")
    return drawn
