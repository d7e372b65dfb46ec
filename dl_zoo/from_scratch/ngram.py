"""An interpolated n-gram language model: what a text's next symbol is, told by the few before it and by counting.

Witten, Bell, "The Zero-Frequency Problem", IEEE Trans. Information Theory 37(4), 1991, method C; interpolated as in
Chen, Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1999, section 2.4.

With c(h w) the count of symbol w behind the n - 1 symbols h, c(h) = sum_w c(h w), k(h) the number of different symbols
seen behind h, and h' = h without its first symbol,

    p_n(w | h) = (c(h w) + k(h) p_(n-1)(w | h')) / (c(h) + k(h))        p_0(w) = 1 / V

and p_n(w | h) = p_(n-1)(w | h') where h was never seen. A history that has met many different symbols is likely to meet
a new one: the shorter history's share k(h) / (c(h) + k(h)) says how likely.

Letters: N symbols of a text, V different ones, n the order. n symbols are one whole number, in base V.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 2**63 - 1


class Counts(NamedTuple):
    """Of one order: sorted n-grams h w and their c(h w); sorted histories h, their c(h) and k(h)."""

    grams: Tensor
    seen: Tensor
    histories: Tensor
    totals: Tensor
    kinds: Tensor


class NGram:
    """
    >>> model = NGram(torch.tensor([0, 1, 0, 1, 0, 0]), vocab_size=2, order=2)
    >>> unigram, bigram = model.probabilities(torch.tensor([0, 1]))
    >>> unigram  # (4 + 2 / 2) / (6 + 2), (2 + 2 / 2) / (6 + 2)
    tensor([0.6250, 0.3750], dtype=torch.float64)
    >>> bigram[1]  # behind 0 came 1 twice and 0 once: (2 + 2 * 0.375) / (3 + 2)
    tensor(0.5500, dtype=torch.float64)
    """

    def __init__(self, ids: Tensor, vocab_size: int, order: int):
        """`ids` (N,), whole numbers from 0 to V - 1. ValueError: no such order of this text and this V."""
        if not 1 <= order <= len(ids):
            raise ValueError(f"order={order}: must be from 1 to the text's {len(ids)} symbols")
        if vocab_size**order > LARGEST:
            raise ValueError(f"order={order}: {order} of {vocab_size} symbols do not fit a number of 64 bits; lower it")
        self.vocab_size = vocab_size
        self.orders = [counted(numbered(ids, vocab_size, n), vocab_size) for n in range(1, order + 1)]

    def probabilities(self, ids: Tensor) -> Iterator[Tensor]:
        """Of each symbol of a text (N,) behind those before it, float64 (N,); order after order from 1 on.

        The first n - 1 symbols have fewer before them, and the probability of that shorter history.
        """
        p = torch.full((len(ids),), 1 / self.vocab_size, dtype=torch.float64)
        for n, counts in enumerate(self.orders, start=1):
            grams = numbered(ids, self.vocab_size, n)  # (N - n + 1,)
            histories = grams // self.vocab_size
            c = looked_up(grams, counts.grams, counts.seen)
            total = looked_up(histories, counts.histories, counts.totals)
            k = looked_up(histories, counts.histories, counts.kinds)
            shorter = p[n - 1 :]
            mixed = torch.where(total > 0, (c + k * shorter) / (total + k).clamp(min=1), shorter)
            p = torch.cat([p[: n - 1], mixed])
            yield p

    def nats(self, ids: Tensor) -> list[float]:
        """- 1/N sum_t log p_n(x_t | x_(t-n+1) .. x_(t-1)) of a text, by order from 1 on."""
        return [float(-p.log().mean()) for p in self.probabilities(ids)]


def numbered(ids: Tensor, vocab_size: int, n: int) -> Tensor:
    """Every n symbols in a row as a number in base V, the last symbol its last digit: (N,) to (N - n + 1,).

    >>> numbered(torch.tensor([1, 2, 3]), vocab_size=10, n=2)
    tensor([12, 23])
    """
    digits = vocab_size ** torch.arange(n - 1, -1, -1)
    return (ids.long().unfold(0, n, 1) * digits).sum(1) if n <= len(ids) else ids.new_empty(0).long()


def counted(grams: Tensor, vocab_size: int) -> Counts:
    kept, seen = grams.unique(return_counts=True)  # sorted, so those of one history lie side by side
    histories, kinds = (kept // vocab_size).unique_consecutive(return_counts=True)
    last = kinds.cumsum(0) - 1
    return Counts(kept, seen, histories, seen.cumsum(0)[last].diff(prepend=torch.zeros(1, dtype=torch.long)), kinds)


def looked_up(keys: Tensor, table: Tensor, values: Tensor) -> Tensor:
    """`values` at the place of each key in the sorted `table`; 0 for a key that is not in it."""
    places = torch.searchsorted(table, keys).clamp(max=len(table) - 1)
    return torch.where(table[places] == keys, values[places], 0)
