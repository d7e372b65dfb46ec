"""The adding problem: of many numbers two are marked; what is their sum?

Hochreiter, Schmidhuber, "Long Short-Term Memory", 1997, Neural Computation 9, section 5.4; in the form of Arjovsky,
Shah, Bengio, "Unitary Evolution Recurrent Neural Networks", 2016, arXiv:1511.06464, section 5, and of most papers
since: numbers uniform in 0..1, all sequences of one length, a mark in each half. Always saying 1 has a mean squared
error of 1/6 = 0.1667.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_zoo.data.drawn import Drawn
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError


class Adding(Drawn):
    """Inputs (N, T, 2) float32: a number, and a mark 0 or 1, at each step; targets (N, 1): the sum of the marked two.

    Args:
        length: of the sequences, T.
    """

    def __init__(self, dims: Mapping[str, Any], *, length: int = 50, **settings: Any):
        super().__init__(dims, **settings)
        if not isinstance(length, int) or length < 2:
            raise UserError(f"data.length={length}: must be a whole number of at least 2, for two marks")
        self.length = length

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        numbers, half = random.rand(count, self.length), self.length // 2
        marks, rows = np.zeros_like(numbers), np.arange(count)
        marks[rows, random.randint(half, size=count)] = 1
        marks[rows, random.randint(half, self.length, size=count)] = 1
        return np.stack([numbers, marks], axis=2), (numbers * marks).sum(axis=1, keepdims=True)

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        return {"input_size": 2, "context": self.length, "num_targets": 1}
