"""How good a classifier is at each class, and how sure one can be of that, from counts alone.

With n_i items of class i, m_i answers "class i" and k_i of those right: recall k / n, precision k / m and
f1 = 2 k / (n + m), their harmonic mean. The intervals are Wilson's (Wilson, "Probable Inference, the Law of Succession,
and Statistical Inference", 1927, J. Am. Stat. Assoc. 22): those p which k of n does not contradict at level 5 %,

    (k + z^2 / 2 +- z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2),    z = 1.96

Unlike p +- z sqrt(p (1 - p) / n) they stay within 0..1 and have a width where all or none are right. They know of the
sampling of the test items only, not of another seed's net; with n_i fixed that is exact for recall, and for precision
it takes m_i as given.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Z = 1.959963984540054  # of a normal variable 95 % lie within +-Z
SHOWN = 20  # classes: more do not fit a terminal
WORST = 5
COLUMNS = ["class", "name", "items", "answers", "right"]
COLUMNS += [f"{name}{end}" for name in ("precision", "recall") for end in ("", "_low", "_high")] + ["f1"]


@dataclass(frozen=True)
class OfClass:
    """`items` of it there are, so many `answers` named it, and of those were `right`. What is 0 / 0 is NaN."""

    index: int
    name: str
    items: int
    answers: int
    right: int

    @property
    def precision(self) -> float:
        return ratio(self.right, self.answers)

    @property
    def recall(self) -> float:
        return ratio(self.right, self.items)

    @property
    def f1(self) -> float:
        return ratio(2 * self.right, self.items + self.answers)

    def row(self) -> list[int | float | str]:
        """In the order of `COLUMNS`."""
        precision, recall = wilson(self.right, self.answers), wilson(self.right, self.items)
        numbers = [self.precision, *precision, self.recall, *recall, self.f1]
        return [self.index, self.name, self.items, self.answers, self.right, *numbers]


def by_class(targets: Tensor, predictions: Tensor, names: Sequence[str]) -> list[OfClass]:
    """From classes (N,) and answers (N,); items without a target (-100) are left out."""
    predictions, targets = predictions[targets >= 0], targets[targets >= 0]
    counts = [each.bincount(minlength=len(names)) for each in (targets, predictions, targets[targets == predictions])]
    table = torch.stack(counts, dim=1).tolist()
    return [OfClass(index, name, *row) for index, (name, row) in enumerate(zip(names, table, strict=True))]


def wilson(right: float, items: int) -> tuple[float, float]:
    """The 95 % interval of a share; (NaN, NaN) of none.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if items == 0:
        return math.nan, math.nan
    half = Z * math.sqrt(right * (items - right) / items + Z**2 / 4)
    low, high = (right + Z**2 / 2 - half) / (items + Z**2), (right + Z**2 / 2 + half) / (items + Z**2)
    return max(0.0, low), min(1.0, high)


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def as_csv(classes: Sequence[OfClass]) -> str:
    """`COLUMNS`, a line each class; what is 0 / 0 is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in classes:
        writer.writerow([number(x) if isinstance(x, float) else x for x in each.row()])
    return text.getvalue()


def as_table(classes: Sequence[OfClass]) -> str:
    """For the terminal, with intervals in brackets; of many classes the five with the lowest f1."""
    few = len(classes) <= SHOWN
    shown = list(classes) if few else sorted(classes, key=lambda c: (math.isnan(c.f1), c.f1))[:WORST]
    names = [each.name if len(each.name) <= 24 else f"{each.name[:23]}…" for each in shown]
    wide = max(len("class"), *map(len, names)) if names else 5
    lines = [] if few else [f"the {WORST} of {len(classes)} classes with the lowest f1:"]
    lines.append(f"{'class':<{wide}}  {'items':>6}  {'precision':<20}  {'recall':<20}  f1")
    for name, each in zip(names, shown, strict=True):
        cells = [share(each.right, each.answers), share(each.right, each.items), number(each.f1, ".3f") or "-"]
        lines.append(f"{name:<{wide}}  {each.items:>6,}  {cells[0]:<20}  {cells[1]:<20}  {cells[2]}")
    return "\n".join(lines)


def share(right: int, items: int) -> str:
    low, high = wilson(right, items)
    return f"{right / items:.3f} [{low:.3f}, {high:.3f}]" if items else "-"


def number(value: float, form: str = ".6g") -> str:
    return "" if math.isnan(value) else f"{value:{form}}"
