"""A net as a strip of boxes, one a layer: as high as its maps are wide, as wide as it has channels or units."""

from collections.abc import Sequence
from html import escape
from itertools import groupby
from math import log2
from typing import Any

Row = tuple[str, str, str, Any]  # name, kind, output, parameters
KINDS = {  # a word in the layer's kind: colour, and what it is called below the drawing
    "conv": ("#3b78c2", "convolution"),
    "norm": ("#9a9a9a", "norm"),
    "pool": ("#e0a030", "pooling"),
    "linear": ("#3a9a5b", "dense"),
    "lstm": ("#8a4fb5", "recurrent"),
    "gru": ("#8a4fb5", "recurrent"),
    "rnn": ("#8a4fb5", "recurrent"),
    "cell": ("#8a4fb5", "recurrent"),
    "embedding": ("#c25b8a", "embedding"),
    "attention": ("#c2503b", "attention"),
    "coderlayer": ("#c2503b", "attention"),
}
BLOCK, OTHER = ("#5a7a9a", "block"), ("#9aa5b0", "other")  # several layers in a row of the table; none that learns
HIGH, GAP, MOST, NARROW, LEAST = 150, 4, 60, 4, 420  # pixels; MOST boxes; a strip is at least so long
UNSEEN = ("Dropout", "Identity", "Flatten")


def kind_of(row: Row) -> tuple[str, str]:
    return next((known for word, known in KINDS.items() if word in row[1].lower()), BLOCK if row[3] else OTHER)


def sizes(row: Row) -> tuple[float, float]:
    """Width and height in pixels, of `6 x 28 x 28`, `8 x 512` or `84`."""
    numbers = [int(word) for word in row[2].split(" x ") if word.isdigit()]
    if not numbers:
        return 10, 20
    channels, across = (numbers[-1], 1) if len(numbers) < 3 else (numbers[0], numbers[-1])
    tall = HIGH * min(1.0, log2(across + 1) / log2(225)) if len(numbers) > 2 else 10 * log2(channels + 1)
    wide = NARROW + 2.5 * log2(channels + 1) if len(numbers) > 2 else NARROW + 6
    return wide, max(8.0, min(tall, HIGH))


def merged(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Layers of one kind and shape in a row as one box, with how many they are: only where there are too many."""
    found = [(row, 1) for row in rows]
    if len(rows) > MOST:
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row[1:3])]
        found = [(group[0], len(group)) for group in groups]
    return found[:MOST]


def svg(rows: Sequence[Row]) -> str:
    """The drawing as one element; a box tells its layer when the pointer rests on it."""
    shown = merged([row for row in rows if row[1] not in UNSEEN])
    stretch = max(1.0, min(3.0, LEAST / sum(sizes(row)[0] + GAP for row, _ in shown)))
    boxes, x = [], 10.0
    for row, count in shown:
        (wide, tall), (colour, _) = sizes(row), kind_of(row)
        name, kind, output = (escape(each) for each in row[:3])
        times = f"{count} x " if count > 1 else ""
        told = f"<title>{times}{name}: {kind}, {output}, {row[3]:,} parameters</title>"
        place = f'x="{x:.1f}" y="{HIGH / 2 - tall / 2 + 10:.1f}" width="{wide * stretch:.1f}" height="{tall:.1f}"'
        boxes.append(f'<rect {place} rx="2" fill="{colour}">{told}</rect>')
        x += wide * stretch + GAP
    legend, at = [], 10
    for colour, name in dict.fromkeys(kind_of(row) for row, _ in shown):
        legend.append(f'<rect x="{at}" y="{HIGH + 28}" width="10" height="10" fill="{colour}"/>')
        legend.append(f'<text x="{at + 15}" y="{HIGH + 37}" font-size="12" fill="currentColor">{name}</text>')
        at += 30 + 7 * len(name)
    width = max(x + 10, at)
    return (
        f'<svg viewBox="0 0 {width:.0f} {HIGH + 48}" style="max-width:{width:.0f}px;width:100%" role="img" '
        f'aria-label="The layers of the net from left to right">{"".join(boxes + legend)}</svg>'
    )
