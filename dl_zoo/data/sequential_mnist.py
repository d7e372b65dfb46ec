"""MNIST read pixel by pixel: what was seen first must be remembered for hundreds of steps.

Le, Jaitly, Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units", 2015, arXiv:1504.00941,
section 4.2: the 784 pixels of a picture, row by row, or all pictures in one random order (`permuted`), which leaves no
neighbours together. Files, splits and licence are MNIST's. A few pixels a step make shorter sequences: 28 are a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from dl_zoo.data.memory import MemoryData, MemoryLoader, Split, at_least_one, stratified
from dl_zoo.data.mnist import MNIST
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError

PIXELS = 28 * 28


class SequentialMNIST(MemoryData):
    """Inputs (N, 784 / pixels, pixels), uint8 until a batch is made of them; targets (N,).

    Args:
        pixels: a step, a divisor of 784.
        permuted: in one order for all pictures, the same whatever the seed of a run.
        mean, std: of a pixel in 0..1.
        train_items: training pictures that are used, every class in proportion; None: all 55,000.
    """

    classes = MNIST.classes
    sizes = MNIST.sizes

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        pixels: int = 1,
        permuted: bool = False,
        mean: Sequence[float] = (0.1307,),
        std: Sequence[float] = (0.3081,),
        train_items: int | None = None,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("pixels", pixels)
        if PIXELS % pixels:
            raise UserError(f"data.pixels={pixels}: must divide {PIXELS}, such as 1, 7, 28")
        if train_items is not None:
            at_least_one("train_items", train_items)
        self.pixels, self.permuted, self.train_items = pixels, permuted, train_items
        self.mean, self.std = [float(m) for m in mean], [float(s) for s in std]
        self.order = np.random.RandomState(0).permutation(PIXELS)
        self.pictures = MNIST({}, data_dir=self.data_dir)

    def absent(self) -> list[str]:
        return self.pictures.absent()

    def prepare_data(self) -> None:
        self.pictures.prepare_data()

    def read(self) -> dict[str, Split]:
        return {name: (self.sequences(images), targets) for name, (images, targets) in self.pictures.read().items()}

    def sequences(self, images: Inputs) -> Tensor:
        """(N, 1, 28, 28) -> (N, T, pixels)"""
        assert isinstance(images, Tensor)
        flat = images.flatten(1)
        return (flat[:, self.order] if self.permuted else flat).unflatten(1, (-1, self.pixels))

    def cut(self, splits: dict[str, Split]) -> dict[str, Split]:
        inputs, targets = splits["train"]
        if self.train_items is None or self.train_items >= len(targets):
            return splits
        used = stratified(targets, self.train_items)[1]
        return {**splits, "train": (inputs.index_select(0, used), targets[used])}

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        return {"input_size": self.pixels, "context": PIXELS // self.pixels, "num_classes": len(self.classes)}

    def pretended(self, items: int, generator: Generator) -> Tensor:
        return torch.randint(256, (items, PIXELS // self.pixels, self.pixels), dtype=torch.uint8, generator=generator)

    def loader(self, split: str, shuffle: bool = False, **settings: Any) -> MemoryLoader:
        return super().loader(split, shuffle, **{"mean": self.mean, "std": self.std, **settings})
