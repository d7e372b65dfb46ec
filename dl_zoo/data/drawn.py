"""Data drawn at random, as many items as asked for.

Each split is a draw of its own. It is the same whatever the seed of a run, by NumPy's legacy generator, whose stream is
frozen (NEP 19); where there are few possible items, one can be in several splits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data.memory import MemoryData, Split, at_least_one

SPLITS = ("train", "val", "test")


class Drawn(MemoryData):
    """A subclass draws; whole numbers become int64, others float32.

    Args:
        train_items: of the training set.
        eval_items: of the validation set, and of the test set.
    """

    def __init__(self, dims: Mapping[str, Any], *, train_items: int = 10_000, eval_items: int = 1_000, **settings: Any):
        super().__init__(dims, **settings)
        at_least_one("train_items", train_items)
        at_least_one("eval_items", eval_items)
        self.classes = []  # a symbol, or a number, is no class with a name of its own
        self.sizes = {"train": train_items, "val": eval_items, "test": eval_items}

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of `count` items."""
        raise NotImplementedError

    def read(self) -> dict[str, Split]:
        return {name: self.draw(draw, self.sizes[name]) for draw, name in enumerate(SPLITS)}

    def draw(self, draw: int, count: int) -> Split:
        inputs, targets = map(torch.from_numpy, self.drawn(np.random.RandomState(draw), count))
        return as_net(inputs), as_net(targets)

    def _check_targets(self, split: str, targets: Tensor) -> None:
        pass  # they are ours

    def pretend(self, items: int) -> None:
        one = self.draw(len(SPLITS), items)
        self.dims = self._agreed_dims(one[0])
        self.splits = dict.fromkeys(SPLITS, one)


def as_net(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() else x.long()
