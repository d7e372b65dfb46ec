"""A stream of symbols: the first say something, all others ask for it. Generated.

A symbol "k=v" gives key k the value v, a symbol "k?" asks for it, and the right answer is the symbol "k=v", however far
back it stands. It is the recall of `sequences.AssociativeRecall` with a pair in one symbol and many questions: one look
back answers, a net is asked at all distances at once, and every time as much is to be remembered. Several questions a
sequence are the idea of Arora, Eyuboglu, Timalsina, Johnson, Poli, Zou, Rudra, Ré, "Zoology: Measuring and Improving
Recall in Efficient Language Models", 2023, arXiv:2312.04927, section 3.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from dl_zoo.data.memory import at_least_one
from dl_zoo.data.sequences import Sequences, places_back
from dl_zoo.data.text import IGNORED
from dl_zoo.errors import UserError


class RecallStream(Sequences):
    """Inputs (N, T) int64, T = `length`: `pairs` pairs, then questions; targets -100, then the pairs asked for.

    All pairs of a sequence have keys of their own, and a question asks for each as likely. Ids: pair (k, v) is
    k * values + v, the questions follow.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        pairs: int = 8,
        length: int = 96,
        keys: int = 8,
        values: int = 8,
        **settings: Any,
    ):
        for key, value in {"pairs": pairs, "keys": keys, "values": values}.items():
            at_least_one(key, value)
        super().__init__(dims, names="", count=keys * values + keys, **settings)
        if pairs > keys:
            raise UserError(f"data.pairs={pairs}: each has a key of its own, and data.keys={keys}")
        if length <= pairs:
            raise UserError(f"data.length={length}: must be more than data.pairs={pairs}, or nothing is asked")
        self.pairs, self.length, self.keys, self.values = pairs, length, keys, values

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        keys = random.rand(count, self.keys).argsort(axis=1)[:, : self.pairs]  # (N, P), all different
        symbols = keys * self.values + random.randint(self.values, size=(count, self.pairs))
        asked = random.randint(self.pairs, size=(count, self.length - self.pairs))  # (N, T - P)
        questions = self.keys * self.values + np.take_along_axis(keys, asked, axis=1)
        answers = np.take_along_axis(symbols, asked, axis=1)
        targets = np.concatenate([np.full_like(symbols, IGNORED), answers], axis=1)
        return np.concatenate([symbols, questions], axis=1), targets

    def distances(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """How many places before each question its answer stands, 0 where nothing is asked; all (B, T)."""
        return places_back(tokens, targets)
