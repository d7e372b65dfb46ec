"""Sounds in TensorBoard, while a net learns to tell them apart: their spectrograms, with what they are taken for.

Tag: `samples/spectrograms`, the first of the validation set, the same ones each time, about ten times in a run. Drawn
for classifiers of sounds only; what has another shape is passed over. Nothing here is random or enters a checkpoint.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dl_zoo.callbacks.figures import render, shorten
from dl_zoo.callbacks.pictures import class_names, draw, is_classification
from dl_zoo.callbacks.texts import is_shown

if TYPE_CHECKING:  # matplotlib takes 0.3 s to import: only where something is drawn
    from matplotlib.figure import Figure

SOUNDS = 12  # three rows of four still show their formants on half a screen
COLUMNS = 4
RANGE = 80.0  # decibels below the loudest cell
WINDOW, HOP = 0.025, 0.005  # seconds


class Spectrograms(Callback):
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:  # place: batch, and loader where there are several. Of the first batch: averaged weights are in the net
        rate = (getattr(trainer.datamodule, "dims", None) or {}).get("sample_rate")  # type: ignore[attr-defined]
        sounds, targets = batch[0], batch[1]
        if not rate or any(place) or not is_shown(trainer) or not isinstance(sounds, Tensor):
            return
        logits = outputs.get("output")
        if not (sounds.ndim == 3 and isinstance(logits, Tensor) and is_classification(logits, targets)):
            return
        names = class_names(trainer, logits.shape[1])
        captions = captions_of(logits[:SOUNDS].float().softmax(1).cpu(), targets[:SOUNDS].tolist(), names)
        title = f"validation after epoch {trainer.current_epoch + 1}: heard, probability"
        figure = spectrograms_figure(sounds[:SOUNDS, 0].float().cpu(), int(rate), captions, title)
        draw(trainer, "samples/spectrograms", render(figure))


def captions_of(probabilities: Tensor, targets: Sequence[int], names: Sequence[str]) -> list[tuple[str, bool]]:
    """What each is taken for and, where that is wrong, what it is; and whether it is right."""
    found = []
    for row, target in zip(probabilities, targets, strict=True):
        best = int(row.argmax())
        truth = "" if best == target else f", is {names[target]}"
        found.append((f"{names[best]} {row[best]:.2f}{truth}", best == target))
    return found


def spectrograms_figure(
    sounds: Tensor, rate: int, captions: Sequence[tuple[str, bool]], title: str, below: Sequence[str] = ()
) -> "Figure":
    """Sounds (N, S), each over its caption's colour: black where that is right, red where it is not.

    Time runs to the right, pitch upwards from 0 to half the sampling rate; brightness is decibels below the loudest.
    `below`: a line in grey for each, such as a file's name.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(2, len(sounds)))
    rows = math.ceil(len(sounds) / columns)
    high = 1.75 if below else 1.55  # inches of a row
    figure = Figure((2.3 * columns, 0.65 + high * rows), dpi=100)
    height = 0.65 + high * rows
    figure.suptitle(title, fontsize=10, y=1 - 0.1 / height, va="top", parse_math=False)
    # One pair of axes for all, at 2.3 inches a unit and rows of `high` inches: a dozen pairs take ten times as long.
    axes = figure.add_axes((0.01, 0.28 / height, 0.98, 1 - 0.6 / height))
    axes.axis("off")
    for n, (sound, (caption, right)) in enumerate(zip(sounds, captions, strict=True)):
        x, y = n % columns * 1.06, n // columns
        axes.imshow(decibels(sound, rate), extent=(x, x + 1, y + 0.78, y), cmap="magma", vmin=-RANGE, vmax=0)
        colour = "black" if right else "tab:red"
        axes.text(x + 0.5, y - 0.03, shorten(caption, 32), fontsize=8, ha="center", color=colour, parse_math=False)
        if below:
            axes.text(x + 0.5, y + 0.86, shorten(below[n], 34), fontsize=6, ha="center", color="0.45", parse_math=False)
    axes.set(xlim=(0, columns * 1.06 - 0.06), ylim=(rows - 0.15, -0.18), aspect="auto")
    extent = f"time to the right, {sounds.shape[1] / rate:g} s; pitch upwards, 0 to {rate / 2000:g} kHz"
    legend = f"{extent}; black: {RANGE:g} dB below the loudest"
    figure.text(0.5, 0.1 / height, legend, fontsize=7, ha="center", color="0.45")
    return figure


def decibels(sound: Tensor, rate: int) -> Any:
    """(S,) -> (frequencies, T), the highest first, in decibels below the loudest cell; silence throughout is -inf."""
    from torchaudio.functional import spectrogram

    length, hop = round(WINDOW * rate), round(HOP * rate)
    size = 1 << (2 * length - 1).bit_length()  # twice the window and more: smooth upwards
    power = spectrogram(sound, 0, torch.hann_window(length), size, hop, length, 2.0, False)
    return (10 * (power / power.max().clamp(min=1e-30)).log10()).flip(0).clamp(min=-RANGE).numpy()
