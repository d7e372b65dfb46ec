"""Generated regressions whose loss is a landscape of a stated shape, to walk on with whole batches or with noise."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dl_zoo.data.drawn import SPLITS, Drawn
from dl_zoo.data.memory import MemoryLoader, Split, at_least_one


class Landscape(Drawn):
    """A subclass draws so many items at a time that each split has the landscape exactly, at least `fewest`.

    So a step on a batch of all `train_items` is a step on that landscape, smaller batches make the gradient noisy, and
    `val/loss` is the landscape's height where an epoch ended.

    Args:
        repeats: copies of the training set in an epoch, since each epoch ends with a validation and a checkpoint. Where
            a batch is one whole copy, or several, copies are not mixed.
    """

    fewest = 1

    def __init__(self, dims: Mapping[str, Any], *, train_items: int = 1000, repeats: int = 1, **settings: Any):
        super().__init__(dims, train_items=train_items, **settings)
        at_least_one("repeats", repeats)
        self.train_items, self.repeats = train_items, repeats

    def read(self) -> dict[str, Split]:
        splits = super().read()
        inputs, targets = splits["train"]
        assert isinstance(inputs, Tensor)
        return {**splits, "train": (torch.cat([inputs] * self.repeats), torch.cat([targets] * self.repeats))}

    def train_dataloader(self) -> MemoryLoader:
        if self.batch_size % self.train_items:
            return super().train_dataloader()
        return self.loader("train", **self.transforms())  # in order: a batch is a whole copy

    def pretend(self, items: int) -> None:
        """A few rows of a split, which have not its landscape."""
        inputs, targets = self.draw(len(SPLITS), max(items, self.fewest))
        assert isinstance(inputs, Tensor)
        self.dims = self._agreed_dims(inputs)
        self.splits = dict.fromkeys(SPLITS, (inputs[:items], targets[:items]))
