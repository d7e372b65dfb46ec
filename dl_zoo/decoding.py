"""From a net that scores the next symbol to sentences: greedy and beam search for translators, sampling for the others.

A translator has `encode(source, lengths) -> memory`, `start(memory) -> state`, `decode(target, state) -> (logits,
state)`; a language model is `net(tokens, state) -> (logits, state)`. A state is tuples of tensors whose first dimension
is the batch, at any depth; it holds all that was read and written so far, so that each step reads one symbol a row.

Beam search keeps the `width` likeliest beginnings y of each sentence, extends each by every symbol, and keeps the
likeliest of those. A beginning that ends is finished, and the sentence is the finished one of the best score

    log p(y | x) / ((5 + |y|) / 6)^alpha                                                 (Wu et al. 2016, eq. 14)

(arXiv:1609.08144; the Transformer has width 4 and alpha 0.6), where |y| counts the end symbol. Since log p never rises
and |y| never exceeds the limit, the search stops as soon as no beginning can overtake: that changes no result. With
width 1 and alpha 0 it is greedy search. `limit` is the most symbols of a sentence, its end included; one that has not
ended there counts only where none has. A net with a `context` is never asked for more than that many positions: a
sentence ends there.

A language model whose context is full forgets: the newest half of the context is read anew, and goes on from there. So
each symbol is chosen from at least half a context, and costs a step and, on average, two positions of a pass.

Decoding is done in evaluation mode, without gradients. Letters: B sentences, W beginnings of each, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn

from dl_zoo.errors import UserError

Ids = list[int]  # a sentence without its begin and end symbols


@torch.no_grad()
def greedy(net: Any, source: Tensor, lengths: Tensor | None = None, *, bos: int, eos: int, limit: int) -> list[Ids]:
    """The likeliest next word, again and again, for each sentence of source (B, S). Empty sources stay empty."""

    def search(source: Tensor, lengths: Tensor | None) -> list[Ids]:
        state = net.start(net.encode(source, lengths))
        newest = source.new_full((len(source),), bos)
        written, ended = [], torch.zeros_like(newest, dtype=torch.bool)
        for _ in range(_within_context(net, limit)):
            logits, state = net.decode(newest[:, None], state)
            newest = logits[:, -1].argmax(1)  # (B, 1, V) -> (B,)
            written.append(newest)
            ended |= newest == eos
            if ended.all():
                break
        return [_up_to(eos, ids) for ids in torch.stack(written, 1).tolist()]

    with evaluating(net):
        return _skipping_empty(search, source, lengths)


@torch.no_grad()
def beam(
    net: Any,
    source: Tensor,
    lengths: Tensor | None = None,
    *,
    bos: int,
    eos: int,
    width: int = 4,
    alpha: float = 0.6,
    limit: int,
) -> list[Ids]:
    """The best translation that a beam of `width` finds for each sentence of source (B, S). Empty sources stay empty.

    Raises:
        UserError: a width below 1 or a negative alpha.
    """
    if width < 1:
        raise UserError(f"beam width {width}: must be at least 1")
    if alpha < 0:
        raise UserError(f"length penalty {alpha}: must be at least 0")
    with evaluating(net):
        return _skipping_empty(
            lambda some, their: _beam(net, some, their, bos, eos, width, alpha, _within_context(net, limit)),
            source,
            lengths,
        )


def _beam(
    net: Any, source: Tensor, lengths: Tensor | None, bos: int, eos: int, width: int, alpha: float, limit: int
) -> list[Ids]:
    count = len(source)
    each_often = torch.arange(count, device=source.device).repeat_interleave(width)
    state = select(net.start(net.encode(source, lengths)), each_often)  # rows: B sentences of W beginnings
    total = source.new_full((count, width), -math.inf, dtype=torch.float64)  # log p; float32 would make new ties
    total[:, 0] = 0.0  # the others are not there yet
    written = source.new_full((count, width, 1), bos)
    running = list(range(count))  # the sentences of the rows
    best: list[tuple[float, Ids]] = [(-math.inf, [])] * count  # score, words
    for step in range(1, limit + 1):
        logits, state = net.decode(written[:, :, -1].reshape(-1, 1), state)
        likely = total[:, :, None] + logits[:, -1].double().log_softmax(1).unflatten(0, (-1, width))  # (B, W, V)
        candidates, place = likely.flatten(1).topk(2 * width)  # at most W of them end, so W go on
        origin, word = place // likely.shape[2], place % likely.shape[2]

        ends = word == eos
        score, which = candidates.masked_fill(~ends, -math.inf)[:, :width].max(1)  # those among the W likeliest
        for row, value in enumerate((score / penalty(step, alpha)).tolist()):
            if value > best[running[row]][0]:
                best[running[row]] = value, written[row, origin[row, which[row]], 1:].tolist()

        total, kept = candidates.masked_fill(ends, -math.inf).topk(width)
        origin, word = origin.gather(1, kept), word.gather(1, kept)
        written = torch.cat([written.gather(1, origin[:, :, None].expand_as(written)), word[:, :, None]], 2)
        hope = (total[:, 0] / penalty(limit, alpha)).tolist()  # a bound of whatever these beginnings can become
        rows = [row for row, sentence in enumerate(running) if hope[row] > best[sentence][0]]
        if not rows:
            return [words for _, words in best]
        going = torch.tensor(rows, device=source.device)
        state = select(state, (width * going[:, None] + origin[going]).flatten())
        total, written, running = total[going], written[going], [running[row] for row in rows]
    for row, sentence in enumerate(running):
        if best[sentence][0] == -math.inf:  # none has ended
            best[sentence] = 0.0, written[row, 0, 1:].tolist()
    return [words for _, words in best]


def penalty(length: int, alpha: float) -> float:
    """What log p is divided by.

    >>> penalty(1, 0.6), penalty(7, 1.0)
    (1.0, 2.0)
    """
    return ((5 + length) / 6) ** alpha


def continued(
    net: nn.Module,
    tokens: Tensor,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generator | None = None,
) -> Iterator[Tensor]:
    """`length` more symbols after tokens (B, P), one (B,) at a time, drawn from softmax(logits / temperature).

    Args:
        temperature: below 1 the likely becomes likelier; 0 takes the likeliest, and draws nothing.
        top_k: draw among the k likeliest only.
        top_p: draw among the likeliest whose probabilities first reach p together (Holtzman et al. 2020,
            arXiv:1904.09751).
        generator: of the draws, on the device of the tokens; torch's own when None.
    Raises:
        UserError: a number out of range, or no symbol to start from.
    """
    if not tokens.shape[1]:
        raise UserError("the prompt is empty: it needs at least one symbol")
    if not 0 <= temperature < math.inf:
        raise UserError(f"temperature {temperature}: must be at least 0")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k {top_k}: must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p {top_p}: must be above 0 and at most 1")
    return _continued(net, tokens, length, lambda logits: _chosen(logits, temperature, top_k, top_p, generator))


def _continued(net: nn.Module, tokens: Tensor, length: int, choose: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    context = getattr(net, "context", None)
    known = tokens[:, -context:] if context else tokens  # what the net may still have to read again
    unread, held, state = known, 0, None  # `held` positions are in the state
    for _ in range(length):
        if context and held + unread.shape[1] > context:
            unread, held, state = known[:, -max(1, context // 2) :], 0, None
        with evaluating(net), torch.no_grad():
            logits, state = net(unread, state)
        newest = choose(logits[:, -1])
        held, unread = held + unread.shape[1], newest[:, None]
        if context:
            known = torch.cat([known, unread], 1)[:, -context:]
        yield newest


def _chosen(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: Generator | None
) -> Tensor:
    """(B, V) -> (B,)"""
    if temperature == 0:
        return logits.argmax(1)
    probabilities, symbol = (logits.float() / temperature).softmax(1).sort(dim=1, descending=True, stable=True)
    if top_k is not None:
        probabilities = probabilities[:, :top_k]
    if top_p is not None:  # of what top_k left
        probabilities = probabilities / probabilities.sum(1, keepdim=True)
        likelier = probabilities.cumsum(1) - probabilities  # what lies before each
        probabilities = probabilities.masked_fill(likelier >= top_p, 0.0)
    drawn = torch.multinomial(probabilities, 1, generator=generator)
    return symbol.gather(1, drawn).squeeze(1)


def select(state: Any, rows: Tensor) -> Any:
    """Rows of each tensor of a state, in this order; a row may come several times."""
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    return None if state is None else tuple(select(each, rows) for each in state)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """In evaluation mode, and then as before."""
    training = net.training
    if training:
        net.eval()
    try:
        yield
    finally:
        if training:
            net.train()


def _within_context(net: Any, limit: int) -> int:
    return min(limit, getattr(net, "context", None) or limit)


def _up_to(eos: int, ids: Ids) -> Ids:
    return ids[: ids.index(eos)] if eos in ids else ids


def _skipping_empty(
    search: Callable[[Tensor, Tensor | None], list[Ids]], source: Tensor, lengths: Tensor | None
) -> list[Ids]:
    """What `search` finds for the sources that have words; nothing for the others."""
    if lengths is None or bool(lengths.all()):
        return search(source, lengths) if source.numel() else [[] for _ in source]
    full = lengths > 0
    some = source[full.to(source.device)], lengths[full]
    found = iter(search(*some) if full.any() else [])
    return [next(found) if words else [] for words in full.tolist()]
