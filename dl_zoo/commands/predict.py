"""`dl-zoo predict PATH files...`: what a trained classifier takes pictures for, as CSV and as a labelled picture.

Runs that read text are answered by `predict_text`, those that read CSV by `predict_series`, sounds by `predict_audio`.
"""

import argparse
import csv
import io
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_zoo.commands.arguments import Parser, add_trust, obey_trust
from dl_zoo.commands.files import is_text, named, picture_files, shown_path
from dl_zoo.errors import UserError
from dl_zoo.native import own_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

SHOWN = 48  # 8 rows of 6 still fit a screen
COLUMNS = 6
HEADS = ("class", "probability")
BATCH = 32  # pictures, or views of them, that the net gets at once: VGG's first map of these takes 0.4 GB

EXAMPLES = """examples
  dl-zoo predict runs/lenet5-digits/<stamp> scan.png
  dl-zoo predict runs/resnet18-flowers/<stamp> holiday/ '*.jpg' --output found
  dl-zoo predict runs/transformer_small-multi30k_de_en/<stamp> letter.de > letter.en
  dl-zoo predict runs/bert_small-movie_reviews/<stamp> reviews.txt
  dl-zoo predict runs/bilstm_tagger-conllu/<stamp> sentences.txt
  dl-zoo predict runs/forecaster_gru-csv_series/<stamp> meter.csv --output tomorrow
  dl-zoo predict runs/audio_cnn-spoken_digits/<stamp> '*.wav' --output heard

Pictures are read as those of the data were: to the same number of channels, the
centre square to the same size. A net that learnt white on black (digits, MNIST)
knows nothing of ink on paper. A folder is searched with all that lie in it.
Files that cannot be read are named and left out; exit code 2 when none is left.

Of a run that reads text the files are UTF-8, and each line is one text. A translator
writes a line for each, an empty one for an empty one: to the screen, or with --output
to DIR, letter.de to letter.en.txt; its beam is the run's. A classifier of texts gives
the classes of each line that is not empty. Of a folder all *.txt are taken. A line
longer than the context is cut; a word that a vocabulary of words lacks is <unk> to the
net, while byte pairs know any text. A tagger takes a line for a sentence, its words and
marks between blanks, and gives word/TAG for each: with --output letter.txt as letter.tags.txt.

Of a run that forecasts a series the files are CSVs with its columns; what comes after
their last rows is written as CSV, and with --output drawn, too. Of a run on a table of
rows the class or the number of each row is told.

Of a run that hears sounds the files are WAV: channels are averaged, another rate is
resampled, which is told, and the length is the run's. Of a folder all *.wav are taken.
"""


Row = tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...]]  # which item, its classes, their probabilities


@dataclass(frozen=True)
class Prediction:
    path: Path
    classes: tuple[str, ...]  # the likeliest first
    probabilities: tuple[float, ...]
    picture: "Tensor"  # (C, S, S) uint8, as the net got it but for the normalisation


def main(argv: list[str]) -> int:
    parser = Parser(
        "dl-zoo predict",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="By a trained run: classes of pictures, sounds, lines of text or rows, as CSV; translations, tags,"
        " forecasts.",
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument("path", help="a run folder, a checkpoint, or zoo:NAME")
    parser.add_argument("files", nargs="+", help="files, folders, or patterns such as 'scans/**/*.png'")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write there: predictions.csv and a picture, or translations"
    )
    parser.add_argument("--top", type=int, default=5, help="how many classes are told of each picture or line (5)")
    parser.add_argument("--checkpoint", choices=["best", "last", "previous"], help="of a run folder; default: best")
    add_trust(parser)
    args = parser.parse_intermixed_args(argv)
    obey_trust(args.trust)
    if args.top < 1:
        raise UserError(f"--top {args.top}: must be at least 1")
    from dl_zoo import trained

    if args.output:
        require_place(args.output)
    named(args.files)  # a wrong name is the first to be told
    facts = trained.facts(args.path, args.checkpoint)  # a bad path is answered before Lightning is imported
    if facts.get("vocabulary"):
        from dl_zoo.commands import predict_text

        return predict_text.answer(args.path, args.files, args.output, args.top, args.checkpoint, facts)
    from dl_zoo.commands import predict_series

    if predict_series.reads_csv(facts):
        return predict_series.answer(args.path, args.files, args.output, args.top, args.checkpoint, facts)
    if facts["dims"].get("sample_rate"):
        from dl_zoo.commands import predict_audio

        return predict_audio.answer(args.path, args.files, args.output, args.top, args.checkpoint, facts)
    files = picture_files(args.files)
    if all(map(is_text, files)):
        raise UserError(f"{shown_path(files[0])}: is text, and {args.path} was trained on none; name pictures")
    from dl_zoo.waiting import waiting

    found: list[Row] = []
    shown: list[Prediction] = []
    for each in waiting(predictions(args.path, files, args.top, args.checkpoint, facts), "predicting", len(files)):
        if isinstance(each, str):
            print(f"dl-zoo: {each}; left out", file=sys.stderr)
            continue
        found.append(((shown_path(each.path),), each.classes, each.probabilities))
        shown += [each] if args.output and len(shown) < SHOWN else []
    if not found:
        raise UserError("none of the files could be read; nothing is predicted")
    text = as_csv(found)
    if args.output is None:
        print(text, end="")
    else:
        print(f"written      {', '.join(map(str, write(args.output, text, shown, len(found))))}")
    return 0


# ---- what they are taken for ---------------------------------------------------------------------------------------


def predictions(
    path: str | Path,
    files: Sequence[Path],
    top: int = 5,
    checkpoint: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Prediction | str]:
    """One prediction a picture, in order; for a file that cannot be read a sentence that says why.

    The pictures go through the loader that evaluates the run's own, so what is done there (a centre crop, views of
    which the mean counts) is done here. The dataset itself is not needed. `facts`: the run's, where they are known.

    Raises:
        UserError: as `load_run`, and a run that is no classifier of pictures.
    """
    from dl_zoo import trained

    facts = trained.facts(path, checkpoint) if facts is None else facts
    import torch

    run = trained.load(path, checkpoint)
    _require_classifier(run, path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, data = run.task.to(device).eval(), run.data
    data.normalisation, data.batch_size = facts["normalisation"], max(1, BATCH // data.views)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), BATCH):
            tried = list(pool.map(lambda file: opened(data, file), files[start : start + BATCH]))
            pictures = [picture for picture in tried if not isinstance(picture, str)]
            beliefs = iter(believed(task, data, torch.stack(pictures), facts["classes"]) if pictures else ())
            for file, picture in zip(files[start : start + BATCH], tried, strict=True):
                if isinstance(picture, str):
                    yield f"{shown_path(file)}: {picture}"
                    continue
                names, probabilities = next(beliefs)
                yield Prediction(file, names[:top], probabilities[:top], picture)


def _require_classifier(run: Any, path: str | Path) -> None:
    from dl_zoo.data.pictures import PictureData
    from dl_zoo.tasks.classification import Classification

    if not isinstance(run.data, PictureData):
        raise UserError(f"{path}: its data are no pictures; predict knows only pictures")
    if not isinstance(run.task, Classification) or run.task.embeds:
        raise UserError(f"{path}: its task gives pictures no classes; predict knows only classifiers")


def opened(data: Any, file: Path) -> "Tensor | str":
    """(C, S, S) uint8, decoded at the size of the dataset's own pictures and then fitted as those were; or why not."""
    import torch

    from dl_zoo.data.decoding import Unreadable, decoded

    try:
        picture = decoded(file, data.dims["channels"], own_size(data))
    except Unreadable as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    fitted = data.fitted(picture.unsqueeze(0))  # a tensor, or what makes one when it is asked for
    return fitted.index_select(0, torch.tensor([0])).squeeze(0)


def believed(
    task: Any, data: Any, items: "Tensor", classes: Sequence[Any] | None
) -> Iterator[tuple[tuple[str, ...], tuple[float, ...]]]:
    """For each item, as the data's `splits` have them, all classes and their probabilities, the likeliest first."""
    import torch

    names = [str(name) for name in classes or range(data.dims["num_classes"])]
    data.classes = names
    data.splits = {"test": (items, torch.zeros(len(items), dtype=torch.int64))}
    with torch.inference_mode():
        for inputs, targets in data.loader("test"):
            outputs = task.measure((inputs.to(task.device), targets.to(task.device))).output
            probabilities, order = outputs.float().softmax(1).cpu().sort(dim=1, descending=True, stable=True)
            for row, values in zip(order.tolist(), probabilities.tolist(), strict=True):
                yield tuple(names[index] for index in row), tuple(values)


# ---- telling it ----------------------------------------------------------------------------------------------------


def as_csv(rows: Sequence[Row], keys: Sequence[str] = ("path",)) -> str:
    """Columns: the keys, class, probability, class_2, probability_2, ..."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = range(2, len(rows[0][1]) + 1)
    writer.writerow([*keys, "class", "probability", *(f"{what}_{k}" for k in places for what in HEADS)])
    for item, classes, probabilities in rows:
        pairs = zip(classes, probabilities, strict=True)
        writer.writerow([*item, *(cell for name, p in pairs for cell in (name, f"{p:.6g}"))])
    return text.getvalue()


def require_place(folder: Path) -> None:
    """UserError where this folder neither is nor can be made: told before the work, which would be for nothing."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "cannot be written" if there.is_dir() else "is a file"
        raise UserError(f"--output {folder}: {there} {reason}; name another folder")


def write(folder: Path, text: str, shown: Sequence[Prediction], total: int) -> list[Path]:
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class name's letter that the font lacks is drawn as a box
        picture(shown, total).savefig(drawn, format="png")
    return save(folder, {"predictions.csv": text.encode(), "predictions.png": drawn.getvalue()})


def save(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Files by their names; the folder is made where it is not there."""
    from dl_zoo.folder import write_bytes

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_bytes(folder / name, content)
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}; name another folder") from error
    return [folder / name for name in contents]


def picture(shown: Sequence[Prediction], total: int) -> "Figure":
    """The pictures in a grid; under each its class and probability, and the file's name in grey."""
    from matplotlib.figure import Figure

    from dl_zoo.callbacks.pictures import shorten

    columns = min(COLUMNS, max(3, len(shown)))
    rows = math.ceil(len(shown) / columns)
    width, height = 1.6 * columns, 0.45 + 2.1 * rows  # inches
    figure = Figure((width, height), dpi=120)
    some = (
        f"the first {len(shown)} of {total:,} pictures" if total > len(shown) else f"{total} picture{'s' * (total > 1)}"
    )
    figure.suptitle(f"{some}: predicted class, probability", fontsize=9, y=1 - 0.12 / height, va="top")
    axes = figure.add_axes((0, 0, 1, 1 - 0.4 / height))  # one pair of axes for all: 48 pairs take ten times as long
    axes.axis("off")
    for n, each in enumerate(shown):
        x, y = n % columns * 1.1, n // columns * 1.45
        pixels = each.picture.permute(1, 2, 0).numpy()  # (S, S, C)
        axes.imshow(pixels, extent=(x, x + 1, y + 1, y), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        caption = f"{shorten(each.classes[0], 16)}  {each.probabilities[0]:.2f}"
        axes.text(x + 0.5, y + 1.13, caption, fontsize=8.5, ha="center", va="center", parse_math=False)
        name = shorten(shown_path(Path(each.path.name)), 22)
        axes.text(x + 0.5, y + 1.27, name, fontsize=6, color="0.45", ha="center", va="center", parse_math=False)
    axes.set(xlim=(-0.08, columns * 1.1 - 0.02), ylim=(rows * 1.45 - 0.05, -0.05))
    return figure
