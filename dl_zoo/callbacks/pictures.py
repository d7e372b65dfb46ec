"""Pictures in TensorBoard: what the first layer looks for, which classes are mixed up, and the mistakes themselves.

Tags: `filters/<layer>`, `confusion/<split>`, `samples/<split>_mistakes`. Drawn for classifiers only; what has another
shape is passed over. Nothing here enters a checkpoint: a resumed run draws the same pictures.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

if TYPE_CHECKING:  # matplotlib takes 0.3 s to import: only where something is drawn
    from matplotlib.figure import Figure

TIMES = 10  # how often filters are drawn in a run
SAMPLES = 25  # 5 x 5 pictures are still legible on half a screen
NUMBERED = 30  # classes: with more, the counts in the confusion matrix no longer fit their cells


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
        self.draw_pass(trainer, "test")

    def draw_filters(self, trainer: Trainer, task: LightningModule) -> None:
        if self.drawn == trainer.global_step or not writers(trainer):
            return
        self.drawn = trainer.global_step
        found = first_filters(getattr(task, "net", task), self.shape or torch.Size())
        if found is not None:
            draw(trainer, f"filters/{found[0]}", grid(found[1]))

    def draw_pass(self, trainer: Trainer, split: str) -> None:
        seen = self.passes.pop(split, None)
        if seen is None or not seen.targets or not writers(trainer):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        classes = getattr(data, "classes", None) or ()
        names = [str(name) for name in classes] if len(classes) == seen.classes else [*map(str, range(seen.classes))]
        counts = seen.counts()
        title = split if trainer.world_size == 1 else f"{split}, process 0 of {trainer.world_size}"
        draw(trainer, f"confusion/{split}", render(confusion_figure(counts, names, title)))
        if seen.kept:
            figure = samples_figure(seen.kept, counts, names, title, getattr(data, "normalisation", None))
            draw(trainer, f"samples/{split}_mistakes", render(figure))


class Pass:
    """What one pass over a split leaves behind: all predictions, and the few pictures that are worth a look.

    First the mistakes, the most confident at the top, then the right answers, the least confident at the top: so
    the 25 best are mistakes as far as there are any. No other picture is kept, and nothing waits for the device.
    """

    def __init__(self) -> None:
        self.classes = 0
        self.targets: list[Tensor] = []
        self.predictions: list[Tensor] = []
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
        if isinstance(pictures, Tensor) and pictures.ndim == 4 and pictures.shape[1] in (1, 3):
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


def first_filters(net: nn.Module, shape: torch.Size) -> tuple[str, Tensor] | None:
    """Name and weights, as pictures (N, 1 or 3, h, w), of the first layer, or None where they make no pictures.

    `shape`: of the inputs; (B, C, H, W) makes pictures of the rows of a linear layer that takes all C*H*W of them.
    """
    layers = ((name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    name, layer = next(layers, ("", net))
    if isinstance(layer, nn.Conv2d):
        weight = layer.weight.detach()  # (O, I, h, w)
    elif isinstance(layer, nn.Linear) and len(shape) == 4 and math.prod(shape[1:]) == layer.in_features:
        weight = layer.weight.detach()[:64].unflatten(1, shape[1:])
    else:
        return None
    if weight.shape[1] not in (1, 3):
        weight = weight.flatten(0, 1).unsqueeze(1)  # neither grey nor colours: each channel for itself
    if min(weight.shape[2:]) == 1:
        return None
    return name.removeprefix("_orig_mod.") or "net", weight[:256].float().cpu()


def grid(weights: Tensor) -> Any:
    """(N, C, h, w) -> (H, W, 3) in bytes: each filter scaled to its own range and enlarged to about 48 pixels."""
    from torchvision.utils import make_grid

    low, high = weights.amin((1, 2, 3), keepdim=True), weights.amax((1, 2, 3), keepdim=True)
    weights = ((weights - low) / (high - low).clamp(min=1e-12)).nan_to_num()
    zoom = max(1, round(48 / max(weights.shape[2:])))
    weights = weights.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    picture = make_grid(weights, nrow=8 if len(weights) <= 64 else 16, padding=4, pad_value=-1.0)
    border = torch.tensor([0.55, 0.7, 0.9]).reshape(3, 1, 1)  # no grey, which could be a weight
    return (picture.where(picture >= 0, border) * 255).round().byte().permute(1, 2, 0).numpy()


def confusion_figure(counts: Tensor, names: Sequence[str], title: str) -> "Figure":
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    classes, right, total = len(names), int(counts.trace()), int(counts.sum())
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    small = classes <= NUMBERED
    side = 2 + 0.45 * classes if small else 8
    figure = Figure((max(4.5, side), max(4, side)), dpi=100, layout="constrained")
    axes = figure.add_subplot(
        title=f"{title}: {right / max(1, total):.1%} right ({right:,} of {total:,})", xlabel="predicted", ylabel="true"
    )
    # The square root brings out the rare mix-ups: 1 % has a tenth of the full colour.
    image = axes.imshow(share.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    if small:
        labels = [shorten(name, 14) for name in names]
        turned: dict[str, Any] = (
            {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, labels)) > 3 else {}
        )
        axes.set_xticks(range(classes), labels, parse_math=False, **turned)
        axes.set_yticks(range(classes), labels, parse_math=False)
        for i, j in counts.nonzero().tolist():
            colour = "white" if share[i, j] > 0.4 else "black"
            axes.text(j, i, f"{int(counts[i, j])}", ha="center", va="center", fontsize=8, color=colour)
    else:
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def samples_figure(
    kept: Sequence[Tensor], counts: Tensor, names: Sequence[str], title: str, normalisation: Mapping[str, Any] | None
) -> "Figure":
    from matplotlib.figure import Figure

    worth, confidence, target, prediction, pictures = (rows.cpu() for rows in kept)
    mistakes = int(counts.sum() - counts.trace())
    shown = int((worth > 0).sum()) if mistakes else int((worth > -2).sum())
    if not mistakes:
        title += f": no mistake; the {shown} least confident right answers, with their probability"
    elif mistakes > shown:
        title += f": the {shown} most confident of {mistakes:,} mistakes: true → predicted, probability"
    else:
        title += (
            f": {'the only mistake' if mistakes == 1 else f'all {mistakes} mistakes'}: true → predicted, probability"
        )
    pixels = denormalised(pictures, normalisation).permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    rows = math.ceil(shown / 5)
    height = 0.35 + 1.95 * rows
    figure = Figure((8, height), dpi=100)
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height, va="top")
    # One pair of axes for all, at 1.5 inches a unit: 25 pairs take ten times as long. A picture is 1 wide and high.
    axes = figure.add_axes((0.07 / 8, 0, 7.86 / 8, 1 - 0.35 / height))
    axes.axis("off")
    for n in range(shown):
        x, y = n % 5 * 1.06, n // 5 * 1.3
        axes.imshow(pixels[n], extent=(x, x + 1, y + 1, y), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        true, predicted = (shorten(names[int(labels[n])], 14) for labels in (target, prediction))
        caption = f"{true} → {predicted}\n{confidence[n]:.3f}" if mistakes else f"{true}\n{confidence[n]:.3f}"
        if mistakes and len(true + predicted) > 16:
            caption = f"{true} →\n{predicted}  {confidence[n]:.3f}"
        axes.text(x + 0.5, y - 0.03, caption, fontsize=8.5, ha="center", parse_math=False)
    axes.set(xlim=(0, 5.24), ylim=(rows * 1.3 - 0.25, -0.25))
    return figure


def denormalised(pictures: Tensor, normalisation: Mapping[str, Any] | None) -> Tensor:
    """Back to 0..1; from each picture's own range where nothing is known."""
    pictures = pictures.float()
    if normalisation:
        mean, std = (torch.tensor(normalisation[key], dtype=torch.float).reshape(-1, 1, 1) for key in ("mean", "std"))
        return (pictures * std + mean).clamp(0, 1)
    low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
    return (pictures - low) / (high - low).clamp(min=1e-12)


def shorten(name: str, length: int) -> str:
    """
    >>> shorten("golden retriever", 10), shorten("cat", 10)
    ('gold…iever', 'cat')
    """
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-(length // 2) :]}"


def render(figure: "Figure") -> Any:
    """(H, W, 3) in bytes, on a canvas of its own: the process's matplotlib backend stays as it is."""
    import numpy
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class name's letter that the font lacks is drawn as a box
        canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3].copy()
