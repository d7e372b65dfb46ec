"""`dl-zoo predict` of runs that hear sounds: the classes of WAV files as CSV, and their spectrograms with these.

A file is read as the run's own were: its channels averaged, brought to the same rate and length. The dataset itself is
not needed.
"""

import io
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_zoo.commands import predict
from dl_zoo.commands.files import files_in, files_of, named, shown_path
from dl_zoo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 64  # sounds that the net gets at once
SHOWN = 24  # six rows of four


@dataclass(frozen=True)
class Heard:
    path: Path
    sound: "Tensor"  # (1, S) float32, as the net gets it


def answer(
    path: str,
    files: Sequence[str],
    output: Path | None,
    top: int,
    checkpoint: str | None,
    facts: Mapping[str, Any],
) -> int:
    """Print, or write to the folder `output`, what the run takes these sounds for. Returns the exit code.

    Files that cannot be read are named and left out; what was resampled or cut is told.

    Raises:
        UserError: as `load_run`; a run that gives sounds no classes; no file could be read.
    """
    from dl_zoo.data import wav

    paths = files_of(named(files), lambda folder: files_in(folder, wav.SUFFIXES), "sounds")
    from dl_zoo import trained

    run = trained.load(path, checkpoint)
    _require_classifier(run, path)
    sounds = list(_heard(paths, int(facts["dims"]["sample_rate"]), int(facts["dims"]["samples"])))
    if not sounds:
        raise UserError("none of the files could be read; nothing is predicted")
    beliefs = classes(run, [each.sound for each in sounds], facts.get("classes"))
    rows: list[predict.Row] = [
        ((shown_path(each.path),), names[:top], probabilities[:top])
        for each, (names, probabilities) in zip(sounds, beliefs, strict=True)
    ]
    table = predict.as_csv(rows)
    if output is None:
        print(table, end="")
        return 0
    drawn = picture(sounds[:SHOWN], rows[:SHOWN], int(facts["dims"]["sample_rate"]), len(sounds))
    written = predict.save(output, {"predictions.csv": table.encode(), "predictions.png": drawn})
    print(f"written      {', '.join(map(str, written))}")
    return 0


def _require_classifier(run: Any, path: str) -> None:
    from dl_zoo.tasks.classification import Classification

    if not isinstance(run.task, Classification) or run.task.embeds:
        raise UserError(f"{path}: its task gives sounds no classes; of runs that hear predict knows only classifiers")


def _heard(paths: Sequence[Path], rate: int, samples: int) -> Iterator[Heard]:
    from dl_zoo.data import wav

    for path in paths:
        name = shown_path(path)
        try:
            wave, theirs = wav.decoded(path, rate)
        except (wav.Unreadable, OSError) as error:
            print(f"dl-zoo: {name}: {getattr(error, 'strerror', None) or error}; left out", file=sys.stderr)
            continue
        changed = [f"resampled from {theirs:,} to {rate:,} samples a second"] if theirs != rate else []
        if len(wave) > samples:
            changed.append(f"cut to its first {samples / rate:g} of {len(wave) / rate:.2f} s")
        if changed:
            print(f"dl-zoo: {name}: {', '.join(changed)}", file=sys.stderr)
        yield Heard(path, wav.fitted(wave, samples))


def classes(
    run: Any, sounds: Sequence["Tensor"], names: Sequence[Any] | None
) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    """Of each sound (1, S) the names of all classes and their probabilities, the likeliest first."""
    import torch

    from dl_zoo.waiting import waiting

    task, data = run.task.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval(), run.data
    data.batch_size = BATCH
    return list(waiting(predict.believed(task, data, torch.stack(list(sounds)), names), "predicting", len(sounds)))


def picture(sounds: Sequence[Heard], rows: Sequence[predict.Row], rate: int, total: int) -> bytes:
    """A PNG: the spectrograms; over each its class and probability, below it the file's name."""
    import torch

    from dl_zoo.callbacks.spectrograms import spectrograms_figure

    captions = [(f"{names[0]} {probabilities[0]:.2f}", True) for _, names, probabilities in rows]
    some = f"the first {len(sounds)} of {total:,}" if total > len(sounds) else f"{total}"
    title = f"{some} sound{'s' * (total > 1)}: predicted class, probability"
    waves = torch.stack([each.sound[0] for each in sounds])
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class name's letter that the font lacks is drawn as a box
        figure = spectrograms_figure(waves, rate, captions, title, [shown_path(Path(s.path.name)) for s in sounds])
        figure.savefig(file, format="png")
    return file.getvalue()
