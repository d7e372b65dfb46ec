"""Batches of sentences with their translations, padded, of about as many tokens each.

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 5.1: sentence pairs of similar length go
into a batch together, as many as make up a number of tokens.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data.memory import at_least_one, seeded
from dl_zoo.data.text import IGNORED, Batches, TextData
from dl_zoo.data.vocabulary import BOS, EOS, PAD
from dl_zoo.errors import UserError

Pairs = tuple[Tensor, Tensor]  # source (N, S), target (N, T + 1): <bos>, the sentence, <eos>; padded with <pad>


class PairLoader(Batches):
    """Pairs of sentences: ((source (B, S), target_in (B, T), lengths (B,) on the CPU), targets (B, T)), all int64.

    `target_in` begins with <bos>, `targets` end with <eos> and are -100 where `target_in` is <pad>; `lengths` are those
    of the sources with their <eos>. S and T are those of the batch's longest.

    A batch holds as many pairs as, padded to its longest sentence, take up to `batch_tokens`, and up to `batch_size`.
    Shuffled, for training: sentences of similar length together. Pairs are sorted by the longer of their sentences,
    equals in random order, and cut; the batches come in random order. As lengths are what the cuts depend on, an epoch
    has the same number of batches as any other. In order, for evaluation: pairs as they stand in the file, so that the
    first hundred are a sample of all, and translations lie beside their references.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        batch_tokens: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        if batch_size < world_size:
            raise UserError(f"data.batch_size={batch_size}: fewer than one item for each of {world_size} processes")
        self.source, self.target = source, target = pairs
        self.source_lengths = (source != PAD).sum(1).cpu()
        self.target_lengths = (target != PAD).sum(1).cpu() - 1  # of target_in and of targets
        self.longer = torch.maximum(self.source_lengths, self.target_lengths)
        inputs = self.longer.sort().values if shuffle else self.longer
        cuts = cut_by_tokens(inputs.tolist(), batch_tokens, batch_size, least=world_size)
        if shuffle and world_size > 1:  # every rank gets as many of each batch: the few that do not divide are left out
            cuts = [(first, last - (last - first) % world_size) for first, last in cuts]
        self.cuts = [(first, last) for first, last in cuts if last - first > rank]
        self.length = len(self.cuts)

    def plan(self, epoch: int) -> tuple[Tensor, list[int]]:
        """The pairs in the order of the cuts, and the cuts in theirs."""
        if not self.shuffle:
            return torch.arange(len(self.longer)), list(range(len(self.cuts)))
        generator = seeded(self.seed, epoch)
        order = torch.randperm(len(self.longer), generator=generator)
        order = order[self.longer[order].argsort(stable=True)]
        return order, torch.randperm(len(self.cuts), generator=generator).tolist()

    def taken(self, plan: tuple[Tensor, list[int]], batch: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        order, turns = plan
        first, last = self.cuts[turns[batch]]
        index = order[first + self.rank : last : self.world_size]
        lengths, width = self.source_lengths[index], int(self.target_lengths[index].max())
        index = index.to(self.source.device)
        source = self.source.index_select(0, index)[:, : int(lengths.max())].long()
        target = self.target.index_select(0, index)[:, : width + 1].long()
        target_in, targets = target[:, :-1], target[:, 1:]
        ends = targets == PAD
        return (source, target_in.masked_fill(ends, PAD), lengths), targets.masked_fill(ends, IGNORED)


def cut_by_tokens(lengths: Sequence[int], tokens: int, most: int, least: int = 1) -> list[tuple[int, int]]:
    """Stretches (first, last + 1) of items, each as long as count * greatest length <= `tokens` and count <= `most`.

    `least` items are in each but the last, however long they are.

    >>> cut_by_tokens([1, 1, 1, 2, 2, 9], tokens=4, most=3)
    [(0, 3), (3, 5), (5, 6)]
    """
    cuts, first, longest = [], 0, 0
    for place, length in enumerate(lengths):
        longest, count = max(longest, length), place - first + 1
        if count > least and (count > most or count * longest > tokens):
            cuts.append((first, place))
            first, longest = place, length
    return [*cuts, (first, len(lengths))] if lengths else []


def padded(rows: Sequence[Sequence[int]], pad: int = PAD) -> Tensor:
    """(N, longest) int32, with <pad> behind each row."""
    lengths = np.array([len(row) for row in rows])
    table = np.full((len(rows), lengths.max(initial=0)), pad, dtype=np.int32)
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum()))
    table[np.arange(table.shape[1]) < lengths[:, None]] = flat  # row by row, as a mask selects
    return torch.from_numpy(table)


def paired(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Pairs:
    """Sentences as ids -> what PairLoader takes: <eos> behind the sources, <bos> and <eos> around the targets."""
    return padded([[*ids, EOS] for ids in sources]), padded([[BOS, *ids, EOS] for ids in targets])


class PairData(TextData):
    """Splits of Pairs. A subclass says in `facts` how long a sentence may be.

    Args:
        batch_tokens: of a batch, padding included, on the side that has more of them.
        batch_size: pairs in a batch at most.
    """

    def __init__(self, dims: Mapping[str, Any], *, batch_tokens: int, **settings: Any):
        super().__init__(dims, **settings)
        at_least_one("batch_tokens", batch_tokens)
        self.batch_tokens = batch_tokens

    def batches(self, split: str, shuffle: bool, rank: int, world_size: int) -> PairLoader:
        limits = {"batch_tokens": self.batch_tokens, "batch_size": self.batch_size}
        return PairLoader(
            self.splits[split], **limits, shuffle=shuffle, seed=self.seed, rank=rank, world_size=world_size
        )
