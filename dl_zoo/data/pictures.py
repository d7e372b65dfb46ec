"""Datasets of pictures: uint8 until a batch is made of them, at a quarter of float32's memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from dl_zoo.data.memory import (
    Augment,
    MemoryData,
    MemoryLoader,
    Mix,
    Split,
    at_least_one,
    first_of_each,
    stratified,
)
from dl_zoo.data.sources import Inputs, take
from dl_zoo.errors import UserError


class PictureData(MemoryData):
    """A subclass names its `classes`, reads its splits, pictures (N, C, H, W) uint8, and fits them to a size.

    These settings are the same for all datasets of pictures, and a subclass hands them up as `**settings`:

    - `image_size`: the width that the net gets, in pixels; None keeps the pictures' own.
    - `resize`: the width at which pictures are kept, if larger: `augment` gets these, and the centre is what is left.
    - `eval_resize`: the width that pictures are brought to before evaluation cuts its crops; None: as they are kept.
    - `views`: 1, or 10 for ten crops of each picture in evaluation, for which `resize` must leave room.
    - `mean`, `std`, one a channel, are of pixels in 0..1; the defaults leave them there.
    - `augment` maps names to functions `(images uint8, generator) -> images`, and `mix` to functions
      `(inputs, class probabilities, generator) -> the same two`; both for training batches alone.
    - `classes`: names, to use these alone, numbered from 0 in this order, in all splits; `dims.num_classes` follows.
    - `labels_per_class` or `train_items`: training pictures that are used, the same whatever the run's seed; so many of
      each class, or so many in all with every class in proportion.

    After `setup` there is also `normalisation`: {"mean": [...], "std": [...]}.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        data_dir: str = "data",
        batch_size: int = 32,
        seed: int = 0,
        image_size: int | None = None,
        resize: int | None = None,
        eval_resize: int | None = None,
        views: int = 1,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        augment: Mapping[str, Augment] | None = None,
        mix: Mapping[str, Mix] | None = None,
        classes: Sequence[str] | None = None,
        labels_per_class: int | None = None,
        train_items: int | None = None,
    ):
        super().__init__(dims, data_dir=data_dir, batch_size=batch_size, seed=seed)
        counts = {"image_size": image_size, "resize": resize, "eval_resize": eval_resize}
        counts |= {"labels_per_class": labels_per_class, "train_items": train_items}
        for key, value in counts.items():
            if value is not None:
                at_least_one(key, value)
        if views not in (1, 10):
            raise UserError(f"data.views={views}: must be 1 or 10")
        if labels_per_class is not None and train_items is not None:
            raise UserError("data.labels_per_class and data.train_items: one of them at a time")
        self.image_size, self.resize, self.eval_resize, self.views = image_size, resize, eval_resize, views
        self.normalisation = {"mean": [float(m) for m in mean], "std": [float(s) for s in std]}
        self.augment, self.mix = dict(augment or {}), dict(mix or {})
        self.labels_per_class, self.train_items = labels_per_class, train_items
        self.subset: list[int] | None = None
        self.wanted = None if classes is None else [str(name) for name in classes]
        if self.wanted is not None and self.classes:
            self._narrow(self.wanted)

    # ---- what is used of the data ----------------------------------------------------------------------------------

    def _narrow(self, names: list[str]) -> None:
        """To these classes: `subset` has their numbers among the `classes` there were."""
        absent = [name for name in names if name not in self.classes]
        if absent:
            known = ", ".join(self.classes[:20]) + (" ..." if len(self.classes) > 20 else "")
            raise UserError(f"data.classes: no class is called {', '.join(absent)}; there are {known}")
        if len(names) < 2 or len(set(names)) < len(names):
            raise UserError(f"data.classes=[{', '.join(names)}]: must be at least two names, each once")
        self.subset = [self.classes.index(name) for name in names]
        self.labelled = len(self.classes)
        if self.dims.get("num_classes") == len(self.classes):
            self.dims["num_classes"] = len(names)
        self.classes = names

    def labels(self) -> int:
        return super().labels() if self.subset is None else self.labelled

    def cut(self, splits: dict[str, Split]) -> dict[str, Split]:
        if self.subset is not None:
            splits = {name: self._of_subset(split) for name, split in splits.items()}
        inputs, targets = splits["train"]
        if self.labels_per_class is not None:
            used = self._labelled(targets, self.labels_per_class)
        elif self.train_items is not None and self.train_items < len(targets):
            used = stratified(targets, self.train_items)[1]
        else:
            return splits
        return {**splits, "train": (take(inputs, used), targets[used])}

    def _of_subset(self, split: Split) -> Split:
        inputs, targets = split
        number = torch.full((self.labelled,), -1)
        number[self.subset] = torch.arange(len(self.classes))
        targets = number[targets]
        kept = (targets >= 0).nonzero().flatten()
        return take(inputs, kept), targets[kept]

    def _labelled(self, targets: Tensor, count: int) -> Tensor:
        try:
            return first_of_each(targets, count, len(self.classes))
        except ValueError as error:
            poor, have = error.args
            name = self.classes[poor]
            raise UserError(f"data.labels_per_class={count}: class {name} has {have} training picture(s)") from None

    # ---- their size ------------------------------------------------------------------------------------------------

    def fit_to(self, images: Inputs, size: int) -> Inputs:
        """(N, C, H, W) -> (N, C, size, size), both uint8. UserError when these pictures cannot be had at that size."""
        raise NotImplementedError

    def fitted(self, inputs: Inputs) -> Inputs:
        """Pictures as they are kept; from now on `image_size` is known where more of them is kept than a net gets."""
        kept = self.resize or self.image_size
        if self.resize is not None:
            self.image_size = self.image_size or inputs.shape[-1]
            if self.resize < self.image_size:
                raise UserError(f"data.resize={self.resize}: must be at least data.image_size, {self.image_size}")
        if self.eval_resize is not None and self.eval_resize < (self.image_size or inputs.shape[-1]):
            raise UserError(f"data.eval_resize={self.eval_resize}: must be at least data.image_size, {self.image_size}")
        if self.views > 1 and (self.image_size is None or (self.eval_resize or kept) == self.image_size):
            raise UserError(f"data.views={self.views}: its crops need data.resize above data.image_size")
        return inputs if kept is None else self.fit_to(inputs, kept)

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        _, channels, height, _ = inputs.shape
        stated = self.dims.get("channels")
        if stated not in (None, "???", channels):
            raise UserError(f"{channels}-channel pictures in a {stated}-channel set: data.dims.channels must be theirs")
        for key, values in self.normalisation.items():
            if len(values) != channels:
                raise UserError(f"data.{key}={values}: the pictures have {channels} channel(s)")
        size = self.image_size or height
        return {**super().facts(inputs), "channels": channels, "image_size": size, "features": channels * size**2}

    def pretended(self, items: int, generator: Generator) -> Tensor:
        channels: Any = self.dims["channels"]
        self.image_size = self.image_size or self.dims["image_size"]
        size: Any = self.resize or self.image_size
        return torch.randint(256, (items, channels, size, size), dtype=torch.uint8, generator=generator)

    # ---- batches ---------------------------------------------------------------------------------------------------

    def transforms(self) -> dict[str, Any]:
        return {"augment": list(self.augment.values()), "mix": list(self.mix.values()), "views": 1, "scale_to": None}

    def loader(self, split: str, shuffle: bool = False, **settings: Any) -> MemoryLoader:
        self.setup()  # so that the size is known
        sizes = {"image_size": self.image_size, "views": self.views, "scale_to": self.eval_resize}
        return super().loader(split, shuffle, **{**self.normalisation, **sizes, **settings})
