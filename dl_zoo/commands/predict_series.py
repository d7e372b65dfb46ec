"""`dl-zoo predict` of runs that read CSV: how a series goes on behind the end of a file, or a class or number a row.

Columns are found by their names, scaled as the run's own were. The dataset itself is not needed.
"""

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dl_zoo.commands import predict
from dl_zoo.commands.files import files_in, files_of, named, shown_path
from dl_zoo.errors import UserError

DRAWN = 6  # files in one picture


def reads_csv(facts: Mapping[str, Any]) -> bool:
    return "columns" in (facts.get("normalisation") or {})


def answer(
    path: str,
    files: Sequence[str],
    output: Path | None,
    top: int,
    checkpoint: str | None,
    facts: Mapping[str, Any],
) -> int:
    """Print, or write to the folder `output`, what the run makes of these files. Returns the exit code.

    Raises:
        UserError: as `csv_file.read` and `load_run`; a column that is missing; a series shorter than the context.
    """
    known = facts["normalisation"]
    places = files_of(named(files), lambda folder: files_in(folder, (".csv",)), "CSV files")
    from dl_zoo.data import csv_file

    is_series = "targets" in known
    least = int(facts["dims"]["context"]) if is_series else 1
    tables = [csv_file.read(file, least) for file in places]
    text, drawing = (series if is_series else rows)(path, tables, top, checkpoint, facts)
    if output is None:
        print(text, end="")
        return 0
    contents = {"predictions.csv": text.encode(), **({"forecast.png": drawing} if drawing else {})}
    print(f"written      {', '.join(map(str, predict.save(output, contents)))}")
    return 0


def answers(path: str, checkpoint: str | None, inputs: Any) -> tuple[Any, Any]:
    """What the net of a run says to inputs (N, ...), on the CPU; and the run."""
    import torch

    from dl_zoo import trained

    run = trained.load(path, checkpoint)
    net: Any = run.net.eval()
    with torch.inference_mode():
        said = net(inputs)
    return (said[0] if isinstance(said, tuple) else said).float(), run


# ---- behind the end ------------------------------------------------------------------------------------------------


def series(path: str, tables: Sequence[Any], top: int, checkpoint: str | None, facts: Mapping[str, Any]) -> Any:
    """Forecasts as CSV, the path first where there are several files; and a picture of them."""
    import torch

    from dl_zoo.callbacks.forecasts import figure, unscaled

    known, context = facts["normalisation"], int(facts["dims"]["context"])
    columns, count = known["columns"], known["targets"]
    shown = [[table.numbers(name)[-context:] for name in columns] for table in tables]
    seen = torch.tensor(shown, dtype=torch.float64).transpose(1, 2)  # (N, T, F)
    steady = bool(facts.get("config", {}).get("data", {}).get("steady", True))
    heads, stamps = zip(*(times(table, int(facts["dims"]["horizon"]), steady) for table in tables), strict=True)
    mean, std = (torch.tensor(known[key], dtype=torch.float64) for key in ("mean", "std"))
    said, _ = answers(path, checkpoint, ((seen - mean) / std).float())
    forecasts = unscaled(said, known)  # (N, H, K)
    several = len(tables) > 1
    lines = [[*["path"] * several, heads[0], *columns[:count]]]
    for table, stamp, values in zip(tables, stamps, forecasts.tolist(), strict=True):
        lines += [
            [*[shown_path(table.path)] * several, when, *(f"{value:.10g}" for value in row)]
            for when, row in zip(stamp, values, strict=True)
        ]
    drawn, image = (
        figure(
            seen[:DRAWN, :, :count],
            forecasts[:DRAWN],
            columns[:count],
            [shown_path(Path(table.path.name)) for table in tables[:DRAWN]],
        ),
        io.BytesIO(),
    )
    drawn.savefig(image, format="png")
    return written(lines), image.getvalue()


def times(table: Any, horizon: int, steady: bool) -> tuple[str, list[str]]:
    """What the steps behind the end are called: dates going on as before where there are some, else 1, 2, ..."""
    from dl_zoo.data.csv_file import after, date_column, usual_step

    column = date_column(table)
    if column is None:
        return "step", [str(step) for step in range(1, horizon + 1)]
    dates = table.dates(column, steady)
    pattern = table.rows[-1][table.columns.index(column)]
    step = usual_step(dates)
    return column, [like(pattern, after(dates[-1], step, times)) for times in range(1, horizon + 1)]


def like(pattern: str, when: Any) -> str:
    """A time as another is written.

    >>> from datetime import datetime
    >>> [like(pattern, datetime(2016, 7, 1)) for pattern in ("2016-06-30 23:00", "2016-06-30", "2016-06-30T23:00:00")]
    ['2016-07-01 00:00', '2016-07-01', '2016-07-01T00:00:00']
    """
    if len(pattern) <= 10 and when.time() == when.min.time():
        return str(when.date())
    detail = "minutes" if pattern.count(":") == 1 and not when.second else "auto"
    return str(when.isoformat("T" if "T" in pattern else " ", timespec=detail))


# ---- row by row ----------------------------------------------------------------------------------------------------


def rows(path: str, tables: Sequence[Any], top: int, checkpoint: str | None, facts: Mapping[str, Any]) -> Any:
    """The classes of each row, or its number, as CSV by file and line; no picture."""
    import torch

    from dl_zoo.data.csv_table import encoded

    known = facts["normalisation"]
    for table in tables:
        tell_of_strangers(table, known)
    said, run = answers(path, checkpoint, torch.cat([encoded(table, known) for table in tables]))
    keys = [(shown_path(table.path), str(line)) for table in tables for line in table.lines]
    if "target_mean" in known:
        values = (said[:, 0].double() * known["target_std"] + known["target_mean"]).tolist()
        lines = [[*key, f"{value:.10g}"] for key, value in zip(keys, values, strict=True)]
        return written([["path", "line", known["target"]], *lines]), None
    require_classifier(run, path)
    found: Iterator[Any] = zip(keys, *(each.tolist() for each in said.softmax(1).sort(1, True)), strict=True)
    names = [str(name) for name in facts["classes"]]
    top_rows = [(key, tuple(names[i] for i in order[:top]), tuple(p[:top])) for key, p, order in found]
    return predict.as_csv(top_rows, ("path", "line")), None


def tell_of_strangers(table: Any, known: Mapping[str, Any]) -> None:
    """One line on stderr for each column with texts that training never met."""
    for name, texts in zip(known["columns"], known["texts"], strict=True):
        if strange := [] if texts is None else sorted({*table.cells(name)} - {*texts}):
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            where = f"{shown_path(table.path)}, column {name!r}"
            print(f"dl-zoo: {where}: {strange[0]!r}{more} was not met in training; taken for none", file=sys.stderr)


def require_classifier(run: Any, path: str) -> None:
    from dl_zoo.tasks.classification import Classification

    if not isinstance(run.task, Classification) or run.task.embeds:
        raise UserError(
            f"{path}: its task gives rows no classes; predict knows classifiers, regressions and forecasters"
        )


def written(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
