"""The copying problem: symbols, a long silence, a sign; now write the symbols down.

Hochreiter, Schmidhuber 1997, section 5, has it in another form; this one is of Arjovsky, Shah, Bengio, "Unitary
Evolution Recurrent Neural Networks", 2016, arXiv:1511.06464, section 5:

    inputs    7 2 8 . . . . . ~ . . .
    targets   . . . . . . . . . 7 2 8

Every place counts, most of them silence. Whoever is silent as long as due, and then guesses, has a loss of
symbols * ln(vocab) / (length + 2 * symbols) nats a place (`floor`), and remembers nothing.
"""

import math
import string
from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_zoo.data.memory import at_least_one
from dl_zoo.data.sequences import SEPARATOR, Sequences


class CopyMemory(Sequences):
    """Tensors (N, symbols + length + symbols) of ids: the silence 0, symbols 1 .. vocab, the sign vocab + 1.

    Args:
        length: of the silence, the sign at its end included.
        symbols: to remember.
        vocab: different ones.
    """

    def __init__(
        self, dims: Mapping[str, Any], *, length: int = 50, symbols: int = 10, vocab: int = 8, **settings: Any
    ):
        for key, value in {"length": length, "symbols": symbols, "vocab": vocab}.items():
            at_least_one(key, value)
        names = "." + string.digits[1:][:vocab] + SEPARATOR if vocab <= 9 else ""
        super().__init__(dims, names=names, count=vocab + 2, **settings)
        self.length, self.symbols, self.vocab = length, symbols, vocab
        self.floor = symbols * math.log(vocab) / (length + 2 * symbols)

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        said = random.randint(1, self.vocab + 1, size=(count, self.symbols))
        inputs = np.zeros((count, self.length + 2 * self.symbols), dtype=np.int64)
        targets = np.zeros_like(inputs)
        inputs[:, : self.symbols] = targets[:, -self.symbols :] = said
        inputs[:, self.symbols + self.length - 1] = self.vocab + 1
        return inputs, targets
