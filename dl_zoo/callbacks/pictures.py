"""Pictures in TensorBoard: what a net looks for, what it sees, which classes it mixes up, and the mistakes themselves.

Tags: `filters/<layer>` in training, `confusion/<split>` and `samples/<split>_mistakes` after it; and of the tested net,
where it has convolutions, `activations/<layer>` (the first, the middle and the last, of the first test picture) and
`samples/test_gradcam` (where in those mistakes it saw what it answered). Of clips there is `samples/<split>_clips`, the
frames of the worst mistakes side by side. Drawn for classifiers only; what has another shape is passed over. Nothing
here enters a checkpoint: a resumed run draws the same pictures.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dl_zoo.callbacks import figures
from dl_zoo.callbacks.figures import denormalised, render, shorten
from dl_zoo.callbacks.maps import Seen, first_filters, grad_cam, look

TIMES = 10  # how often filters are drawn in a run
SAMPLES = 25  # 5 x 5 pictures are still legible on half a screen


class Pictures(Callback):
    def __init__(self) -> None:
        self.shape: torch.Size | None = None  # of the first batch's inputs
        self.drawn = -1  # step of the last filters
        self.passes: dict[str, Pass] = {}  # the newest of each split

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.shape, self.drawn = None, -1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.shape is None:
            self.shape = batch[0].shape if isinstance(batch[0], Tensor) else torch.Size()
            if trainer.global_step == 0:
                self.draw_filters(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_due(trainer.current_epoch + 1, trainer.max_epochs):
            self.draw_filters(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.draw_filters(trainer, pl_module)
        self.draw_pass(trainer, "val")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.passes["val"] = Pass()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:  # place: batch, and loader where there are several
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not any(place[1:]) and writers(trainer):
            self.passes["val"].add(outputs, batch)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.passes["test"] = Pass()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        if not any(place[1:]) and writers(trainer):
            self.passes["test"].add(outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seen = self.draw_pass(trainer, "test")
        if seen is not None and seen.kept and not getattr(pl_module, "embeds", False):
            self.draw_inside(trainer, pl_module, seen)

    def draw_filters(self, trainer: Trainer, task: LightningModule) -> None:
        if self.drawn == trainer.global_step or not writers(trainer):
            return
        self.drawn = trainer.global_step
        found = first_filters(getattr(task, "net", task), self.shape or torch.Size())
        if found is not None:
            draw(trainer, f"filters/{found[0]}", figures.grid(found[1]))

    def draw_pass(self, trainer: Trainer, split: str) -> "Pass | None":
        """Confusion and mistakes; the pass, where there was one to draw."""
        seen = self.passes.pop(split, None)
        if seen is None or not seen.targets or not writers(trainer):
            return None
        counts, names = seen.counts(), class_names(trainer, seen.classes)
        title = split if trainer.world_size == 1 else f"{split}, process 0 of {trainer.world_size}"
        if seen.classes <= figures.MATRIX:
            draw(trainer, f"confusion/{split}", render(figures.confusion_figure(counts, names, title)))
        elif counts.sum() > counts.trace():
            draw(trainer, f"confusion/{split}", render(figures.mixups_figure(counts, names, title)))
        if seen.kept and seen.kept[-1].ndim == 5:
            frames = shown(trainer, seen.kept[-1].transpose(1, 2).flatten(0, 1))  # (N, C, T, H, W) -> (N T, C, H, W)
            strips = frames.unflatten(0, (len(seen.kept[-1]), -1))
            figure = figures.clips_figure(seen.kept, counts, names, title, strips)
            draw(trainer, f"samples/{split}_clips", render(figure))
        elif seen.kept:
            pixels = shown(trainer, seen.kept[-1])
            figure = figures.samples_figure(seen.kept, counts, names, title, pixels)
            draw(trainer, f"samples/{split}_mistakes", render(figure))
        return seen

    def draw_inside(self, trainer: Trainer, task: LightningModule, seen: "Pass") -> None:
        net = getattr(task, "net", task)
        net = getattr(net, "_orig_mod", net)  # hooks do not fire in a compiled net
        inside = look(net, seen.first)
        if inside is None:
            return
        draw_activations(trainer, inside, seen.first)
        *rows, prediction, pictures = seen.kept
        heat = grad_cam(net, pictures, prediction, inside)
        if heat is not None:
            title, names = "Grad-CAM of the answer, test", class_names(trainer, seen.classes)
            pixels = figures.heated(shown(trainer, pictures), heat)
            figure = figures.samples_figure([*rows, prediction], seen.counts(), names, title, pixels)
            draw(trainer, "samples/test_gradcam", render(figure))


class Pass:
    """What one pass over a split leaves behind: all predictions, and the few pictures that are worth a look.

    First the mistakes, the most confident at the top, then the right answers, the least confident at the top: so
    the 25 best are mistakes as far as there are any. No other picture is kept, and nothing waits for the device.
    """

    def __init__(self) -> None:
        self.classes = 0
        self.targets: list[Tensor] = []
        self.predictions: list[Tensor] = []
        self.first = torch.empty(0)  # picture of the split, (1, C, H, W), or clip, (1, C, T, H, W)
        self.kept: list[Tensor] = []  # worth, confidence, target, prediction, picture: the SAMPLES best rows so far

    def add(self, outputs: Any, batch: Any) -> None:
        outputs = outputs if isinstance(outputs, Mapping) else {}
        logits, targets = outputs.get("output"), outputs.get("targets")
        if not (isinstance(logits, Tensor) and isinstance(targets, Tensor) and is_classification(logits, targets)):
            return
        confidence, prediction = logits.float().softmax(1).max(1)  # (B,)
        self.classes = logits.shape[1]
        self.targets.append(targets)
        self.predictions.append(prediction)
        pictures = batch[0]
        if isinstance(pictures, Tensor) and pictures.ndim in (4, 5) and pictures.shape[1] in (1, 3):
            pictures = pictures[:: max(1, len(pictures) // max(1, len(targets)))]  # of several views the first
            self.first = self.first if len(self.first) else pictures[:1].clone()
            worth = torch.where(prediction == targets, -confidence, confidence)  # a mistake in (0, 1], right in [-1, 0)
            worth = worth.masked_fill(targets < 0, -2)  # -100: no target
            rows = best([worth, confidence, targets, prediction, pictures])
            self.kept = best([torch.cat(pair) for pair in zip(self.kept, rows, strict=True)]) if self.kept else rows

    def counts(self) -> Tensor:
        """(K, K): how often class i was taken for class j."""
        targets, predictions = torch.cat(self.targets).cpu(), torch.cat(self.predictions).cpu()
        cells = (targets * self.classes + predictions)[targets >= 0]
        return cells.bincount(minlength=self.classes**2).reshape(self.classes, self.classes)


def best(rows: list[Tensor]) -> list[Tensor]:
    index = rows[0].topk(min(SAMPLES, len(rows[0]))).indices
    return [row[index] for row in rows]


def is_classification(logits: Tensor, targets: Tensor) -> bool:
    shapes = logits.ndim == 2 and logits.shape[1] > 1 and targets.shape == logits.shape[:1]
    return shapes and logits.is_floating_point() and targets.dtype == torch.int64


def class_names(trainer: Trainer, count: int) -> list[str]:
    """Those of the data where they are as many as the net's outputs, else numbers."""
    classes = getattr(trainer.datamodule, "classes", None) or ()  # type: ignore[attr-defined]
    return [shorten(str(name), 14) for name in classes] if len(classes) == count else [*map(str, range(count))]


def shown(trainer: Trainer, pictures: Tensor) -> Tensor:
    """In 0..1, on the CPU."""
    return denormalised(pictures.cpu(), getattr(trainer.datamodule, "normalisation", None))  # type: ignore[attr-defined]


def draw_activations(trainer: Trainer, inside: Seen, picture: Tensor) -> None:
    """Of the first, the middle and the last convolution."""
    last = len(inside.convolutions) - 1
    for place in sorted({0, last // 2, last}):
        name, maps = inside.convolutions[place]
        title = f"{name}, convolution {place + 1} of {last + 1}"
        figure = figures.activations_figure(maps, shown(trainer, picture)[0], title)
        draw(trainer, f"activations/{name}", render(figure))


def is_due(epoch: int, epochs: int | None) -> bool:
    """Evenly spread over a known number of epochs, at the powers of two of an unknown one.

    >>> [epoch for epoch in range(1, 26) if is_due(epoch, 25)], [epoch for epoch in range(1, 26) if is_due(epoch, -1)]
    ([3, 6, 9, 12, 15, 18, 21, 24], [1, 2, 4, 8, 16])
    """
    if epochs is None or epochs < 0:
        return epoch & (epoch - 1) == 0
    return epoch % max(1, math.ceil(epochs / TIMES)) == 0


def writers(trainer: Trainer) -> list[Any]:
    if not trainer.is_global_zero:
        return []
    experiments = (getattr(logger, "experiment", None) for logger in trainer.loggers)
    return [experiment for experiment in experiments if hasattr(experiment, "add_image")]


def draw(trainer: Trainer, tag: str, picture: Any) -> None:  # (H, W, 3) in bytes
    for writer in writers(trainer):
        writer.add_image(tag, picture, trainer.global_step, dataformats="HWC")
