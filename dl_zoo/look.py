"""What notebooks look at: curves, profiles, pictures and texts of runs, and the verdict cards of a part of the article.

    look.curves({"sgd": one, "adam": other}, "train/loss", "val/acc")
    look.picture(one, "filters/c1")
    look.verdicts("1.5")

A run is what `run` returned, or its folder. Everything shown is read from the run's event file and from results/.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil
from pathlib import Path
from typing import Any

from dl_zoo.claims import card, report, result
from dl_zoo.claims.figure import numbered
from dl_zoo.errors import UserError
from dl_zoo.options import nearest

DPI = 70  # what a notebook keeps of its pictures is small


@dataclass(frozen=True)
class Picture:
    """A PNG that a notebook shows."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return f"<a picture of {len(self.png):,} bytes>"


class Markdown(str):
    """A text that a notebook sets."""

    def _repr_markdown_(self) -> str:
        return str(self)


def folder_of(run: Any) -> Path:
    return Path(getattr(run, "folder", run))


def events_of(run: Any) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder_of(run)), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def curves(runs: Mapping[str, Any], *tags: str, log: bool = False) -> Picture:
    """A panel a tag, a line a run. `log`: of the values. UserError: a tag that no run has."""
    figure, panels = _panels(len(tags))
    every = {name: events_of(run) for name, run in runs.items()}
    for axes, tag in zip(panels, tags, strict=True):
        known = {name: events for name, events in every.items() if tag in events.Tags()["scalars"]}
        if not known:
            raise UserError(f"{tag}: {nearest(tag, {each for e in every.values() for each in e.Tags()['scalars']})}")
        for name, events in known.items():
            points = events.Scalars(tag)
            marker = "o" if len(points) == 1 else ""
            axes.plot([p.step for p in points], [p.value for p in points], marker=marker, label=name)
        axes.set(xlabel="step", title=tag, **({"yscale": "log"} if log else {}))
        axes.legend()
    return drawn(figure)


def profile(runs: Mapping[str, Any], pattern: str, xlabel: str = "layer") -> Picture:
    """Metrics that end in numbers, such as `probe/gradient/*`, over these: a line a run."""
    figure, (axes,) = _panels(1)
    for name, run in runs.items():
        points = numbered(run.metrics, pattern)
        if not points:
            raise UserError(f"{pattern}: {nearest(pattern, run.metrics)}")
        axes.plot([*points], [*points.values()], marker="." if len(points) < 60 else "", label=name)
    axes.set(xlabel=xlabel, title=pattern)
    axes.legend()
    return drawn(figure)


def picture(run: Any, tag: str, at: int = -1) -> Picture:
    """What the run drew under this tag; `at`: which in time, the last by default. UserError: it drew none."""
    events = events_of(run)
    known = events.Tags()["images"]
    if tag not in known:
        raise UserError(f"{tag}: {nearest(tag, known)}")
    return Picture(events.Images(tag)[at].encoded_image_string)


def map_of_classes(net: Any, points: Any, classes: Any, side: int = 120) -> Picture:
    """What a net of two inputs answers over the plane, and the points (N, 2) that it should tell apart."""
    import torch

    low, high = points.min().item() * 1.1, points.max().item() * 1.1
    line = torch.linspace(low, high, side)
    plane = torch.cartesian_prod(line, line)
    with torch.no_grad():
        answers = net.eval()(plane).argmax(1).reshape(side, side)
    figure, (axes,) = _panels(1, height=3.2)
    axes.imshow(answers.T.numpy(), origin="lower", extent=(low, high, low, high), cmap="coolwarm", alpha=0.35)
    axes.scatter(*points.T.numpy(), c=classes.numpy(), cmap="coolwarm", s=4)
    axes.set(xticks=[], yticks=[])
    return drawn(figure)


def pictures(batch: Any, across: int = 8) -> Picture:
    """Pictures (N, C, H, W) in 0..1 side by side."""
    from dl_zoo.callbacks.gallery import gallery
    from dl_zoo.commands.sample_pictures import png

    return Picture(png(gallery(batch, across)))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markdown:
    return Markdown(report.table(header, [[str(cell) for cell in row] for row in rows]))


def verdicts(*chosen: str) -> Markdown:
    """Verdict cards of parts of the article (`1.5`) and of claims by name (`c14_*`), from the results of the clone."""
    rows = []
    for id in card.ids():
        stated = card.stated(id)
        if not any(f"{stated['article']}.".startswith(f"{each}.") or fnmatchcase(id, each) for each in chosen):
            continue
        stored = (result.COME_WITH_THE_CLONE / f"{id}.{tier}.json" for tier in card.JUDGED)
        path = next(filter(Path.is_file, stored), None)
        content = result.read(path) if path else None
        verdict = report.verdict(content) if content else report.NOT_RUN
        rows.append(
            [f"`{id}`", stated["claim"], stated["reported"], report.ours(content) if content else "", f"**{verdict}**"]
        )
    if not rows:
        raise UserError(f"{', '.join(chosen)}: no claim is of this part or name; dl-zoo claims lists them")
    return table(["claim", "what it says", "reported", "here", "verdict"], rows)


def _panels(count: int, height: float = 2.8) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    across = min(count, 3)
    down = ceil(count / across)
    figure = Figure(figsize=(3.6 * across if count > 1 else 4.8, height * down), layout="constrained", dpi=DPI)
    return figure, [figure.add_subplot(down, across, i + 1) for i in range(count)]


def drawn(figure: Any) -> Picture:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return Picture(file.getvalue())
