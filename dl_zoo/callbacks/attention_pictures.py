"""Attention in TensorBoard: which symbol looks at which, a panel a head, on a real sentence; and positions as the net
is told of them.

Tags: `attention/<layer>` of the first, the middle and the last layer of each kind (encoder, decoder, between them; for
recurrent translators their alignments), on the first short sentence of the test set, and `attention/positions`. Drawn
of the tested net, where it answers `attention_maps(*inputs) -> (output, {layer: (B, H, T, S)})`. Nothing is drawn at
random and nothing enters a checkpoint.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from dl_zoo.callbacks.figures import render, shorten
from dl_zoo.callbacks.maps import undisturbed
from dl_zoo.callbacks.pictures import draw, writers

if TYPE_CHECKING:  # matplotlib takes 0.3 s to import: only where something is drawn
    from matplotlib.figure import Figure

SYMBOLS = 24  # of a sentence: with more, their names no longer fit beside the panels
HEADS = 8  # panels of a layer
POSITIONS = 128  # rows of the picture of positions, where the net knows no end


class AttentionPictures(Callback):
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:  # place: batch, and loader where there are several
        if any(place) or not writers(trainer):
            return
        net: Any = getattr(pl_module, "net", pl_module)
        net = getattr(net, "_orig_mod", net)  # a compiled net has no maps
        table = positions(net)
        if table is not None:
            draw(trainer, "attention/positions", render(positions_figure(table)))
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        found = sentence(batch[0], (getattr(data, "dims", None) or {}).get("pad_id"))
        if not hasattr(net, "attention_maps") or found is None:
            return
        with undisturbed(net, pl_module.device), torch.no_grad():
            _, maps = net.attention_maps(*found)
        names = labels(found, getattr(data, "words", None))
        for layer in chosen(list(maps)):
            draw(trainer, f"attention/{layer}", render(attention_figure(maps[layer][0], names, layer)))


# ---- what is looked at ---------------------------------------------------------------------------------------------


def sentence(inputs: Any, pad_id: int | None) -> tuple[Tensor, ...] | None:
    """One item of a batch as the net takes it, without padding and of at most `SYMBOLS` symbols; None: it is no text.

    A batch is tokens (B, T), or a pair of these and the sources' lengths on the CPU. The first item that is short
    enough is taken, else the first one, cut. Source and target get different lengths, which tell a map's sides.
    """
    parts = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    texts = [part for part in parts if isinstance(part, Tensor) and part.ndim == 2 and part.dtype == torch.int64]
    if not texts or not len(texts[0]):
        return None
    rows = [[unpadded(text[item], pad_id) for text in texts] for item in range(len(texts[0]))]
    rows = [row for row in rows if all(map(len, row))] or rows[:1]
    row = next((row for row in rows if max(map(len, row)) <= SYMBOLS and len({*map(len, row)}) == len(row)), rows[0])
    row = [text[:SYMBOLS] for text in row]
    if len(row) == 2 and len(row[0]) == len(row[1]):
        row[1] = row[1][:-1]
    if not all(map(len, row)):
        return None
    found = tuple(text[None].clone() for text in row)
    return (*found, torch.tensor([len(row[0])])) if len(parts) == 3 else found


def unpadded(tokens: Tensor, pad_id: int | None) -> Tensor:
    """(T,) without the padding at its end."""
    real = torch.ones_like(tokens) if pad_id is None else tokens != pad_id
    places = real.nonzero()
    return tokens[: int(places.max()) + 1] if len(places) else tokens[:0]


def labels(texts: Sequence[Tensor], words: Any) -> dict[int, list[str]]:
    """Length of a text -> its symbols, by which a map's sides are named."""
    return {text.shape[1]: [symbol(words, int(token)) for token in text[0]] for text in texts if text.ndim == 2}


def symbol(words: Any, token: int) -> str:
    """A symbol as it can be seen: space and line break too. Its number where nothing names it."""
    if words is None:
        return str(token)
    known = words.symbols
    name = str(known(token) if callable(known) else known[token])
    return shorten(name.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") or "∅", 12)


def chosen(layers: Sequence[str]) -> list[str]:
    """Of each kind, a name without its numbers, the first, the middle and the last.

    >>> chosen(["encoder.0.attention", "encoder.1.attention", "encoder.2.attention", "encoder.3.attention", "cross"])
    ['encoder.0.attention', 'encoder.2.attention', 'encoder.3.attention', 'cross']
    """
    kinds: dict[str, list[str]] = {}
    for layer in layers:
        kinds.setdefault(re.sub(r"\d+", "", layer), []).append(layer)
    return [same[place] for same in kinds.values() for place in sorted({0, len(same) // 2, len(same) - 1})]


def positions(net: nn.Module) -> Tensor | None:
    """(positions, width), what the net adds to the vectors of its tokens; None where it adds nothing.

    That is what a module says of itself which has a `kind`, a `width` and, where it learns them, a `table`.
    """
    for module in net.modules():
        kind, width, table = (getattr(module, name, None) for name in ("kind", "width", "table"))
        if kind == "learned" and isinstance(table, nn.Embedding):
            return table.weight.detach().float().cpu()
        if kind == "sinusoid" and isinstance(width, int):
            length = min(getattr(net, "context", 0) or POSITIONS, POSITIONS)
            with torch.no_grad():
                return module(torch.zeros(1, length, width, device=next(net.parameters()).device))[0].float().cpu()
    return None


# ---- drawn ---------------------------------------------------------------------------------------------------------


def attention_figure(maps: Tensor, names: Mapping[int, Sequence[str]], title: str) -> "Figure":
    """Weights (H, T, S), a panel a head; `names`: symbols by the number of them."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    heads, asking, answering = maps.shape
    title += f": {heads} heads, the first {HEADS}" if heads > HEADS else ""
    maps = maps[:HEADS].float().cpu()
    across = min(4, len(maps))
    down = math.ceil(len(maps) / across)
    cell = 0.11 if len(maps) > 1 else 0.18  # inches a symbol: a line of 7 points takes 0.1
    wide, high = (min(4.5, max(1.3, cell * symbols)) for symbols in (answering, asking))
    beside = 0.07 * max((len(name) for name in names.get(asking, ())), default=0) + 0.4
    below = 0.07 * max((len(name) for name in names.get(answering, ())), default=0) + 0.3
    size = (max(4.0, across * wide + beside), down * (high + 0.25) + below + 0.4)
    figure = Figure(size, dpi=100, layout="constrained")
    figure.suptitle(f"{title}\neach row looks at the columns", fontsize=9, parse_math=False)
    for head, weights in enumerate(maps):
        axes = figure.add_subplot(down, across, head + 1)
        # The square root brings out what is faint: a weight of 1 % has a tenth of the full colour.
        axes.imshow(weights.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        if heads > 1:
            axes.set_title(f"head {head + 1}", fontsize=8)
        rows = names.get(asking) if head % across == 0 else None
        columns = names.get(answering) if head + across >= len(maps) else None
        name_ticks(axes, rows or (), columns or ())
    return figure


def name_ticks(axes: Any, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Single characters stand upright."""
    axes.tick_params(length=0, labelsize=7)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    turned = 90 if max(map(len, columns), default=0) > 1 else 0
    axes.set_xticks(range(len(columns)), columns, rotation=turned, parse_math=False)


def positions_figure(table: Tensor) -> "Figure":
    """(positions, width): the numbers themselves, and the cosine between the vectors of any two positions."""
    from matplotlib.figure import Figure

    figure = Figure((8, 3.6), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    bound = float(table.abs().max().clamp(min=1e-12))
    numbers = left.imshow(table.numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto", interpolation="nearest")
    left.set(xlabel="dimension", ylabel="position", title="what is added")
    figure.colorbar(numbers, ax=left)
    unit = nn.functional.normalize(table, dim=1)
    alike = right.imshow((unit @ unit.T).numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    right.set(xlabel="position", title="cosine between positions")
    figure.colorbar(alike, ax=right, shrink=0.85)
    return figure
