"""Unseen digits: MNIST, of which training and validation have some classes and the test set the others.

For nets that learn a distance: what they say of digits they never saw is knowledge of strokes and not of ten names (the
"one-shot" way of Koch, Zemel, Salakhutdinov 2015, "Siamese Neural Networks for One-shot Image Recognition", section 4).
Labels stay those of all ten digits. Batches for training have as many items of each of their classes (`class_batches`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dl_zoo.data.class_batches import ClassBatches
from dl_zoo.data.memory import MemoryLoader, Split
from dl_zoo.data.mnist import MNIST
from dl_zoo.data.sources import take
from dl_zoo.errors import UserError


class UnseenDigits(MNIST):
    """`unseen`: the digits of the test set; `items_per_class`: of a batch, None: shuffled; others: see PictureData."""

    sizes = {}  # noqa: RUF012

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        unseen: Sequence[int] = (7, 8, 9),
        items_per_class: int | None = 8,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        wrong = [digit for digit in unseen if digit not in range(10)]
        if wrong or len(set(unseen)) < len(unseen) or not 2 <= len(unseen) <= 8:
            raise UserError(f"data.unseen={list(unseen)}: must be from two to eight different digits")
        if self.wanted is not None or self.labels_per_class is not None:
            raise UserError("data.classes and data.labels_per_class: unseen_digits picks its own; data.unseen=[7,8,9]")
        self.unseen, self.items_per_class = list(unseen), items_per_class

    def cut(self, splits: dict[str, Split]) -> dict[str, Split]:
        held = torch.tensor(self.unseen)
        kept = {}
        for name, (inputs, targets) in splits.items():
            chosen = (torch.isin(targets, held) == (name == "test")).nonzero().flatten()
            kept[name] = take(inputs, chosen), targets[chosen]
        return super().cut(kept)

    def train_dataloader(self) -> MemoryLoader:
        loader = super().train_dataloader()
        if self.items_per_class is None or not loader.shuffle:
            return loader
        return ClassBatches.of(loader, self.items_per_class)
