"""The picture of a claim: the source's figure redrawn from our runs, arms side by side, the sabotage dashed.

curves   a logged curve over the steps: mean of the seeds, and the bootstrap's 95 % bounds as a band
profile  metrics numbered by layer or the like, `probe/gradient/*`: each seed thin, their mean bold
values   the final metric: a point a seed, and the mean with its one-sided 95 % t bounds
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_zoo.claims import statistics
from dl_zoo.claims.judge import value_of
from dl_zoo.folder import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "0.25"
COLOURS = ("#1f5fa8", "#c2571a", "#2f7d4f", "#7a4fa3", "#8a6d00", "#5b6770")  # told apart also without colour sight
Series = tuple[str, Sequence[Mapping[str, Any]], str, str]  # title, runs, colour, line style


def draw(content: Mapping[str, Any], path: Path) -> None:
    import io

    drawn = io.BytesIO()
    figure(content).savefig(drawn, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    write_bytes(path, drawn.getvalue())


def figure(content: Mapping[str, Any]) -> "Figure":
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive

    asked = content["card"].get("figure") or {"kind": "values", "metric": content["card"]["rule"][0]["metric"]}
    result = Figure(figsize=(5.5, 3.2))
    axes = result.add_subplot()
    kinds = {"curves": _curves, "profile": _profile, "values": _values}
    kinds[asked["kind"]](axes, list(series(content)), asked["metric"])
    if asked.get("log"):
        (axes.set_xscale if asked["kind"] == "values" else axes.set_yscale)("log")
    _quiet(axes)
    if "label" in asked:
        axes.set_ylabel(asked["label"], color=INK)
    if "across" in asked:
        axes.set_xlabel(asked["across"], color=INK)
    if asked["kind"] == "curves":
        seeds = max(len(arm["runs"]) for arm in content["arms"].values())
        axes.set_xlabel(f"step   (mean and 95 % bounds of {seeds} seeds)", color=INK, fontsize=8)
    axes.set_title(f"{content['id']}: {content['verdict'].lower()}", fontsize=9, color=INK, loc="left")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return result


def series(content: Mapping[str, Any]) -> Iterator[Series]:
    """The arms, then the broken ones in the colour of the arm that they break."""
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(content["arms"])}
    for name, arm in content["arms"].items():
        yield name, arm["runs"], colours[name], "-"
    for name, arm in content["sabotage"].items():
        yield f"{name}, sabotaged", arm["runs"], colours[name], "--"


def _curves(axes: Any, every: Sequence[Series], tag: str) -> None:
    for title, runs, colour, style in every:
        points = [dict(map(tuple, run.get("curves", {}).get(tag, []))) for run in runs]
        steps = sorted(set.intersection(*map(set, points))) if points else []
        if not steps:
            continue  # a broken arm may not have come so far
        mean, low, high = statistics.band([[one[step] for step in steps] for one in points])
        axes.plot(steps, mean, style, color=colour, linewidth=1.5, label=title)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylabel(tag, color=INK)


def _profile(axes: Any, every: Sequence[Series], glob: str) -> None:
    for title, runs, colour, style in every:
        lines = [numbered(run["metrics"], glob) for run in runs if run["status"] == "finished"]
        lines = [line for line in lines if line]
        for line in lines:
            axes.plot(list(line), list(line.values()), style, color=colour, linewidth=0.6, alpha=0.25)
        places = sorted(set.intersection(*map(set, lines))) if lines else []
        if places:
            mean = [sum(line[place] for line in lines) / len(lines) for place in places]
            axes.plot(places, mean, style, color=colour, linewidth=1.8, label=title)
    axes.set_xlabel("layer", color=INK)
    axes.set_ylabel(glob.removesuffix("/*"), color=INK)


def numbered(metrics: Mapping[str, Any], glob: str) -> dict[int, float]:
    """
    >>> numbered({"probe/gradient/02": 3.0, "probe/gradient/01": 2.0, "probe/error/0_input": 9.0}, "probe/gradient/*")
    {1: 2.0, 2: 3.0}
    """
    found = {name: value for name, value in metrics.items() if fnmatchcase(name, glob) and value is not None}
    places = {int(m[0]): value for name, value in found.items() if (m := re.search(r"\d+", name.rpartition("/")[2]))}
    return dict(sorted(places.items()))


def _values(axes: Any, every: Sequence[Series], metric: str) -> None:
    for row, (_, runs, colour, _) in enumerate(every):
        found = [value_of(run, metric) for run in runs if metric in run["metrics"] or metric == "diverged"]
        found = [value for value in found if math.isfinite(value)]
        if not found:
            axes.annotate("no seed finished", (0.5, row), xycoords=("axes fraction", "data"), color=INK, fontsize=8)
            continue
        axes.plot(found, [row - 0.25] * len(found), "o", color=INK, alpha=0.4, markersize=4, markeredgewidth=0)
        mean, low, high = statistics.t_bounds(found)
        axes.plot([low, high], [row, row], color=colour, linewidth=1.8, solid_capstyle="butt")
        axes.plot([mean], [row], "o", color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8)
    axes.set_yticks(range(len(every)), [title for title, *_ in every])
    axes.set_ylim(len(every) - 0.5, -0.6)
    axes.set_xlabel(f"{metric}   (grey: a seed each; colour: mean, one-sided 95 % bounds)", color=INK, fontsize=8)


def _quiet(axes: Any) -> None:
    """Nothing that is not data."""
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("0.6")
    axes.tick_params(labelsize=8, color="0.6", labelcolor=INK)
    axes.grid(axis="y", color="0.93", linewidth=0.8)
    axes.set_axisbelow(True)
