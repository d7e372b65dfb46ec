"""Finished runs side by side, seeds together, as a table, as CSV, or as a figure.

Only `config.yaml` and `metrics.json` are read, and as plain data: a stranger's folder is no danger here.
"""

import csv
import json
import math
import os
import re
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_zoo.errors import UserError
from dl_zoo.options import nearest, plain_yaml

if TYPE_CHECKING:  # matplotlib takes 0.4 s to import: only where something is drawn
    from matplotlib.figure import Figure

WHERE_IT_RAN: tuple[str, ...] = (
    "run_dir",
    "data_dir",
    "data.data_dir",
    "resume",
    "name",
    "dims",
    "data.dims",
    "logger",
)
WHERE_IT_RAN += ("diagnostics", "pictures", "checkpoint_every", "debug")
WHERE_IT_RAN += ("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.profiler")
LESS_IS_BETTER = {"loss", "error", "ppl", "mse", "mae", "bpc", "nll", "fid"}
INK, ACCENT = "0.25", "#1f5fa8"


@dataclass
class Run:
    """A finished run: its configuration as dotted keys and texts (without `seed` and where it ran), its metrics."""

    folder: Path
    seed: int
    keys: dict[str, str]
    metrics: dict[str, float]


Setting = list[Run]  # runs that differ in their seed alone


# ---- from folders to runs ----------------------------------------------------------------------------------------


def run_folders(paths: Iterable[str | Path]) -> list[Path]:
    """The folders at and below these paths that hold a `config.yaml`. Links below them are not followed.

    Raises:
        UserError: a path that is no folder.
    """
    found: dict[Path, Path] = {}  # two paths may hold the same
    for path in (Path(each).expanduser() for each in paths):
        if not path.is_dir():
            what = "is a file" if path.is_file() else "there is no such folder"
            raise UserError(f"{path}: {what}; name run folders, or folders that hold them")
        for where, _, files in os.walk(path):
            if "config.yaml" in files and (Path(where) / "config.yaml").is_file():
                found.setdefault(Path(where).resolve(), Path(where))
    return sorted(found.values())


def read_settings(paths: Sequence[str]) -> list[Setting]:
    """The finished runs below these paths by setting, each seed once. What is left out is told on stderr."""
    runs, unfinished = [], 0
    for folder in run_folders(paths):
        try:
            run = read_run(folder)
        except UserError as error:
            print(f"{error}; left out", file=sys.stderr)
            continue
        unfinished += run is None
        runs += [run] if run else []
    if unfinished:
        print(f"{unfinished} unfinished left out", file=sys.stderr)
    if not runs:
        raise UserError(f"{' '.join(map(str, paths))}: no finished run here; dl-zoo train makes one")
    settings = [newest(setting) for setting in by_setting(runs)]
    if repeats := len(runs) - sum(map(len, settings)):
        print(f"{repeats} older with the setting and seed of a newer run left out", file=sys.stderr)
    return settings


def read_run(folder: Path) -> Run | None:
    """One run folder; None while it is unfinished.

    Raises:
        UserError: it is damaged, or another program's.
    """
    metrics = read_metrics(folder)
    if metrics is None:
        return None
    config = read_config(folder / "config.yaml")
    return Run(folder, config["seed"], dotted(config), metrics)


def read_metrics(folder: Path) -> dict[str, float] | None:
    """The final metrics of a run; None while it is unfinished. UserError: they cannot be read."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    try:
        metrics = {_text(name): float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {_one_line(error)}") from error
    if "epoch" not in metrics:
        raise UserError(f"{path} is not of a dl_zoo run: it has no epoch")
    return metrics


def read_config(path: Path) -> dict[str, Any]:
    """A stranger's `config.yaml` as plain data. UserError: it cannot be read, or is of another program."""
    try:
        config = plain_yaml(path.read_text(encoding="utf-8"))
    except Exception as error:  # a wrong tag makes the loader raise nearly anything
        raise UserError(f"{path} is damaged: {_one_line(error)}") from error
    if not isinstance(config, dict) or type(config.get("seed")) is not int:
        raise UserError(f"{path} is not of a dl_zoo run: it has no seed")
    return config


def dotted(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted keys to texts, so that 1 and 1.0 are the same; `regularizer` is the names of those picked.

    >>> dotted({"seed": 0, "scheduler": {}, "regularizer": {"l2": {"strength": 1.0}, "l1": {"strength": 2}}})
    {'scheduler': 'none', 'regularizer.l2.strength': '1', 'regularizer.l1.strength': '2', 'regularizer': 'l1+l2'}
    """
    keys = {key: text for key, text in _flat(config) if not _within(key, (*WHERE_IT_RAN, "seed"))}
    keys.pop("regularizer", None)  # `none` would stand in its place, the others at the end
    picked = config.get("regularizer")
    keys["regularizer"] = "+".join(sorted(map(_text, picked))) if isinstance(picked, dict) and picked else "none"
    return keys


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A node's own key tells its choice, the last part of `_target_`."""
    for name, value in node.items():
        key = f"{prefix}{_text(name)}"
        if name == "_partial_":  # how it is built, nothing that anybody chose
            continue
        if isinstance(value, dict) and value:
            if "_target_" in value:
                yield key, _text(str(value["_target_"]).rpartition(".")[2])
            yield from _flat(value, f"{key}.")
        else:
            yield key, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = "none" if value == {} else str(value)
    return text if text.isprintable() else repr(text)  # no line breaks, and nothing that a terminal obeys


def _within(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


# ---- from runs to rows -------------------------------------------------------------------------------------------


def by_setting(runs: Sequence[Run]) -> list[Setting]:
    """Runs together that agree in all but their seed.

    A key such as `data.seed` that equals the seed in each of them only follows it, and is taken out of `keys`; where
    it stands still while the seed moves it is a key like any other.
    """
    for setting in _grouped(runs, lambda run: frozenset(k for k in run.keys.items() if not k[0].endswith(".seed"))):
        for key in [key for key in setting[0].keys if key.endswith(".seed")]:
            if all(run.keys.get(key) == str(run.seed) for run in setting):
                for run in setting:
                    del run.keys[key]
    return _grouped(runs, lambda run: frozenset(run.keys.items()))


def _grouped(runs: Iterable[Run], key: Callable[[Run], Hashable]) -> list[Setting]:
    groups: dict[Hashable, Setting] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def newest(setting: Setting) -> Setting:
    """Of each seed the newest run, by the stamp that is its folder's name."""
    latest = {run.seed: run for run in sorted(setting, key=lambda run: run.folder.name)}
    return [latest[seed] for seed in sorted(latest)]


def differing(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys that tell the rows apart.

    Those with two values among the rows that have them, or that only some rows of one choice have (`optimizer.momentum`
    where both are SGD); choices come first. As long as some rows still look alike, any key that tells them apart.

    >>> differing([{"model": "LeNet5", "model.pooling": "max"}, {"model": "MLP", "model.width": "800"}])
    ['model']
    >>> differing([{"optimizer": "SGD", "optimizer.momentum": "0.9"}, {"optimizer": "SGD"}])
    ['optimizer.momentum']
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [key for key in keys if len({row[key] for row in rows if key in row and not _follows(key, row)}) > 1]
    shown += [key for key in keys if key not in shown and _is_one_sided(key, rows)]
    shown = sorted((key for key in shown if not _is_the_models(key, rows)), key=lambda key: "." in key)
    for key in sorted(keys, key=lambda key: key.endswith("._target_")):  # a whole path only if nothing shorter does
        if len(set(map(_cells(shown), rows))) < len(set(map(_cells([*shown, key]), rows))):
            shown.append(key)
    return shown


def _follows(key: str, row: Mapping[str, str]) -> bool:
    """Is it said by another key: a choice in full, or what a regularizer sets elsewhere, which bears its name?"""
    head, *rest = key.split(".")
    names = row.get("regularizer", "").split("+")
    return key.endswith("._target_") or (head != "regularizer" and any(name in rest for name in names))


def _is_one_sided(key: str, rows: Sequence[Mapping[str, str]]) -> bool:
    """Have some rows of one and the same choice this number of it, and others not?"""
    group = key.partition(".")[0]
    choices = {row[group] for row in rows if group in row and not key.endswith((".seed", "._target_"))}
    return group != "regularizer" and any(len({key in r for r in rows if r.get(group) == one}) > 1 for one in choices)


def _is_the_models(key: str, rows: Sequence[Mapping[str, str]]) -> bool:
    """The pictures' size, where each model brings its own."""
    sizes = {(row.get("model"), row.get(key)) for row in rows}
    return key == "data.image_size" and len(sizes) == len({model for model, _ in sizes}) > 1


def _cells(columns: Sequence[str]) -> Callable[[Mapping[str, str]], tuple[str, ...]]:
    return lambda row: tuple(row.get(key, "") for key in columns)


# ---- metrics -----------------------------------------------------------------------------------------------------


def chosen_metrics(runs: Sequence[Run], patterns: Sequence[str]) -> list[str]:
    """The metrics that match, in the order of the patterns. UserError: one that matches none."""
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"--metric {pattern}: no run has such a metric; {nearest(pattern, names)}")
    return list(dict.fromkeys(name for pattern in patterns for name in names if fnmatchcase(name, pattern)))


def values_of(setting: Setting, metric: str) -> list[float]:
    return [run.metrics[metric] for run in setting if metric in run.metrics]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval, t(0.975, n - 1) s / sqrt(n); nan where n is too small.

    Student, "The Probable Error of a Mean", Biometrika 6(1), 1908. It takes the seeds for draws of a normal law.

    >>> mean, half = interval([0.96, 0.97, 0.98])
    >>> round(mean, 4), round(half, 4)  # 4.3027 * 0.01 / sqrt(3)
    (0.97, 0.0248)
    """
    from scipy.special import stdtrit  # scipy.stats takes ten times as long to import

    n = len(values)
    mean = sum(values) / n if n else math.nan
    if n < 2:
        return mean, math.nan
    variance = sum((value - mean) * (value - mean) for value in values) / (n - 1)
    return mean, float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)


def spelled(values: Sequence[float]) -> str:
    """Mean and half-width to two digits of the latter; a single value alone.

    >>> spelled([0.96, 0.97, 0.98]), spelled([0.97]), spelled([])
    ('0.970 ± 0.025', '0.97', '')
    """
    mean, half = interval(values)
    if len(values) < 2:
        return f"{mean:.4g}" if values else ""
    if half == 0 or not math.isfinite(half):
        return f"{mean:.4g} ± {half:g}"
    decimals = min(6, max(0, 1 - math.floor(math.log10(half))))
    return f"{mean:.{decimals}f} ± {half:.{decimals}f}"


def best_first(settings: Sequence[Setting], metric: str) -> list[Setting]:
    """By the metric's mean: the least first for losses and errors, else the greatest; rows without it last."""
    sign = 1 if LESS_IS_BETTER & set(re.split(r"[/_]", metric)) else -1

    def place(setting: Setting) -> tuple[bool, float]:
        mean = interval(values_of(setting, metric))[0]
        return math.isnan(mean), 0.0 if math.isnan(mean) else sign * mean

    return sorted(settings, key=place)


# ---- table and CSV -----------------------------------------------------------------------------------------------


def table(settings: Sequence[Setting], columns: Sequence[str], metrics: Sequence[str]) -> list[list[str]]:
    """The header, and a row for each setting."""
    rows = [[*columns, "seeds", *metrics]]
    for setting in settings:
        numbers = [spelled(values_of(setting, metric)) for metric in metrics]
        rows.append([*_cells(columns)(setting[0].keys), str(len(setting)), *numbers])
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """
    >>> print(markdown([["model", "seeds"], ["LeNet5", "3"]]))
    | model  | seeds |
    | ------ | ----- |
    | LeNet5 | 3     |
    """
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def print_csv(settings: Sequence[Setting], columns: Sequence[str], metrics: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*columns, "seed", *metrics, "folder"])
    for run in (run for setting in settings for run in setting):
        numbers = [run.metrics.get(metric, "") for metric in metrics]
        writer.writerow([*_cells(columns)(run.keys), run.seed, *numbers, run.folder])


def common_parent(runs: Sequence[Run]) -> str:
    """Where all of them lie; relative where that is shorter."""
    parent = os.path.commonpath([os.path.abspath(run.folder.parent) for run in runs])
    return min(parent, os.path.relpath(parent), key=len)


def count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


# ---- figure ------------------------------------------------------------------------------------------------------


def figure(settings: Sequence[Setting], columns: Sequence[str], metric: str) -> "Figure":
    """A row for each setting, the first on top: its seeds, and under them the mean with its 95 % t interval."""
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive

    result = Figure(figsize=(5.5, 0.9 + 0.32 * len(settings)))  # inches; `save` adds what the labels need
    axes = result.add_subplot()
    for row, setting in enumerate(settings):
        values = values_of(setting, metric)
        mean, half = interval(values)
        axes.plot(values, [row - 0.3] * len(values), "o", color=INK, alpha=0.4, markersize=4, markeredgewidth=0)
        axes.plot([mean - half, mean + half], [row, row], color=ACCENT, linewidth=1.6, solid_capstyle="butt")
        axes.plot([mean], [row], "o", color=ACCENT, markersize=6, markeredgecolor="white", markeredgewidth=0.8)
    labels = [label(setting[0], columns) for setting in settings]
    axes.set_yticks(range(len(settings)), labels, parse_math=False)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xlabel(metric, color=INK, parse_math=False)
    axes.set_title("grey: a run each; blue: mean, 95 % interval", fontsize=8, color="0.45", loc="right")
    _quiet(axes)
    return result


def label(run: Run, columns: Sequence[str]) -> str:
    """`optimizer=Adam, regularizer=l2`; the folder's name where nothing differs."""
    return ", ".join(f"{key}={run.keys[key]}" for key in columns if key in run.keys) or run.folder.parent.name


def _quiet(axes: Any) -> None:
    """Nothing that is not data, and a faint line for the eye along each row."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(INK)
    axes.tick_params(labelsize=9, color=INK, labelcolor=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def save(picture: "Figure", path: Path) -> None:
    try:
        picture.savefig(path, dpi=200, bbox_inches="tight")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else _one_line(error)
        raise UserError(f"--plot {path} cannot be written: {reason}; name a .png in a folder that exists") from error
    print(f"written {path}", file=sys.stderr)
