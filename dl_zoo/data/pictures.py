"""Datasets of small pictures in memory: uint8 until a batch is made of them, at a quarter of float32's memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from dl_zoo.data.memory import Augment, MemoryData, MemoryLoader, Mix, at_least_one
from dl_zoo.errors import UserError


class PictureData(MemoryData):
    """A subclass names its `classes`, reads its splits, pictures (N, C, H, W) uint8, and fits them to a size.

    `image_size` None keeps the pictures' own. `mean` and `std`, one a channel, are of pixels in 0..1; the defaults
    leave them there. For training batches, `augment` maps names to functions `(images uint8, generator) -> images`, and
    `mix` to functions `(inputs, class probabilities, generator) -> the same two`.

    After `setup` there is also `normalisation`: {"mean": [...], "std": [...]}.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        data_dir: str = "data",
        batch_size: int = 32,
        image_size: int | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        seed: int = 0,
        augment: Mapping[str, Augment] | None = None,
        mix: Mapping[str, Mix] | None = None,
    ):
        super().__init__(dims, data_dir=data_dir, batch_size=batch_size, seed=seed)
        if image_size is not None:
            at_least_one("image_size", image_size)
        self.image_size = image_size
        self.normalisation = {"mean": [float(m) for m in mean], "std": [float(s) for s in std]}
        self.augment, self.mix = dict(augment or {}), dict(mix or {})

    def fit_to(self, images: Tensor, size: int) -> Tensor:
        """(N, C, H, W) -> (N, C, size, size), both uint8. UserError when these pictures cannot be had at that size."""
        raise NotImplementedError

    def fitted(self, inputs: Tensor) -> Tensor:
        return inputs if self.image_size is None else self.fit_to(inputs, self.image_size)

    def facts(self, inputs: Tensor) -> dict[str, Any]:
        _, channels, height, _ = inputs.shape
        for key, values in self.normalisation.items():
            if len(values) != channels:
                raise UserError(f"data.{key}={values}: the pictures have {channels} channel(s)")
        return {"channels": channels, "image_size": height, **super().facts(inputs)}

    def pretended(self, items: int, generator: Generator) -> Tensor:
        channels: Any = self.dims["channels"]
        size: Any = self.image_size or self.dims["image_size"]
        return torch.randint(256, (items, channels, size, size), dtype=torch.uint8, generator=generator)

    def transforms(self) -> dict[str, Any]:
        return {"augment": list(self.augment.values()), "mix": list(self.mix.values())}

    def loader(self, split: str, shuffle: bool = False, **settings: Any) -> MemoryLoader:
        return super().loader(split, shuffle, **self.normalisation, **settings)
