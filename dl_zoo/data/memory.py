"""Small datasets, held whole: a tensor of inputs, an int64 tensor of targets, and the loader over them.

Inputs are vectors, float32 as the net gets them, or pictures, uint8 (`pictures.PictureData`).

No workers and no Python per item: a batch is one gather, and of pictures one cast, and in place one multiply and one
add. For 128 pictures of 1x32x32 that takes 0.04 ms on two cores. Slower: `inputs[index]` for the gather (0.11),
`addcmul` for the last two (0.06). A float32 copy of the pictures, at four times the memory, would win 0.01.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from dl_zoo.data.sources import Files, Inputs, in_bytes, resized
from dl_zoo.errors import UserError

Augment = Callable[[Tensor, Generator], Tensor]  # (B, C, H, W) uint8 -> the same, of any height and width
Mix = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]  # normalised inputs, targets (B, K) -> the same
Split = tuple[Inputs, Tensor]  # inputs (N, F) float32 or (N, C, H, W) uint8, targets (N,) int64
SHARE = 0.5  # of the device's free memory: a split that needs more stays on the host, and its batches travel


class MemoryLoader:
    """Batches `(inputs (B, ...) float32, targets (B,) int64)`, pure functions of (seed, epoch, batch).

    With `mean` and `std`, one a channel, the inputs are pictures (N, C, H, W) uint8 and normalised after they are
    brought to 0..1; without, they are handed out as they are stored. Pictures larger than `image_size`, as they are
    stored or as `augment` leaves them, are cut to their centre; with `views=10`, to ten views each (`ten_views`), so
    that the inputs are (10 B, ...) and the targets (B,). `scale_to` is a width that they are brought to before that.

    What lies on the host, a tensor or a `sources.Source`, while `device` is another, is gathered into page-locked
    memory and moved before the transforms. The default device is that of the inputs.

    The order of an epoch is a permutation drawn from (seed, epoch) alone, and the draws of `augment` and `mix` come
    from (seed, epoch, batch, rank), so a run that stops anywhere goes on exactly, with no generator's state to keep.
    Where items are mixed, targets are probabilities (B, `classes`) float32.

    `batch_size` is the global batch: each of `world_size` ranks takes every world_size-th item of it, from its own
    `rank` on. A shuffled loader gives every rank as many batches: of the last, shorter batch of an epoch it leaves out
    the few items that do not divide. An unshuffled one leaves out and repeats none, so a rank may have one batch fewer.

    The state, `{"epoch", "batch"}`: the epoch of the last batch handed out, and how many of that epoch have been. It
    moves before the batch is handed out: while the consumer works on batch i, `state_dict()` says i + 1. A pass, which
    is what the first `next` after `iter` begins,

    - starts epoch 0 when nothing has been handed out;
    - after `load_state_dict` goes on at that place, or starts the next epoch if that one was complete;
    - else starts the next epoch, whether the last pass ended or was left midway.

    `set_epoch(e)` makes the next pass start epoch e, unless the state is in e already.
    """

    def __init__(
        self,
        inputs: Inputs,
        targets: Tensor,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        augment: Sequence[Augment] = (),
        mix: Sequence[Mix] = (),
        classes: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        device: torch.device | None = None,
        image_size: int | None = None,
        scale_to: int | None = None,
        views: int = 1,
    ):
        if batch_size < world_size:
            raise UserError(f"data.batch_size={batch_size}: fewer than one item for each of {world_size} processes")
        self.inputs, self.targets = inputs, targets
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.augment, self.mix, self.classes = tuple(augment), tuple(mix), classes
        self.rank, self.world_size = rank, world_size
        self.device, self.image_size, self.views = device or inputs.device, image_size, views
        self.scale_to = scale_to

        tail = len(inputs) % batch_size
        left_out = tail if drop_last else tail % world_size if shuffle else 0
        self.items = len(inputs) - left_out
        full, tail = divmod(self.items, batch_size)
        self.length = full + (tail > rank)

        self.scale = self.offset = None
        if mean is not None and std is not None:  # (x / 255 - mean) / std as one multiply and one add, each (C, 1, 1)
            spread, middle = (torch.tensor(values, device=self.device).view(-1, 1, 1) for values in (std, mean))
            self.scale, self.offset = 1 / (255 * spread), -middle / spread

        self.epoch, self.batch, self.under_way = 0, 0, False

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.under_way or self.batch >= len(self):
            self.epoch, self.batch = self.epoch + 1, 0
        epoch, order = self.epoch, self.order(self.epoch)
        for batch in range(self.batch, len(self)):
            inputs, targets = self.gathered(self.share(order, batch))
            if batch + 1 < len(self) and isinstance(self.inputs, Files):
                self.inputs.prefetch(self.share(order, batch + 1))
            if self.augment or self.mix:
                generator = seeded(self.seed, epoch, batch, self.rank)
            for transform in self.augment:
                inputs = transform(inputs, generator)
            if self.scale_to is not None and inputs.shape[-1] != self.scale_to:
                inputs = resized(inputs, self.scale_to)
            if self.image_size is not None and self.views == 10:
                inputs = ten_views(inputs, self.image_size)
            elif self.image_size is not None and max(inputs.shape[-2:]) > self.image_size:
                inputs = centre_crop(inputs, self.image_size)
            if self.scale is not None and self.offset is not None:
                inputs = inputs.float().mul_(self.scale).add_(self.offset)
            if self.mix:
                targets = F.one_hot(targets, self.classes).float()
            for mix in self.mix:
                inputs, targets = mix(inputs, targets, generator)
            # Before the yield: what follows the last one never runs when the consumer stops at len().
            self.epoch, self.batch, self.under_way = epoch, batch + 1, True
            yield inputs, targets

    def share(self, order: Tensor, batch: int) -> Tensor:
        """Indices of this rank's items of a batch."""
        start = batch * self.batch_size
        return order[start + self.rank : start + self.batch_size : self.world_size]

    def gathered(self, index: Tensor) -> tuple[Tensor, Tensor]:
        inputs, targets = self.inputs.index_select(0, index), self.targets.index_select(0, index)
        if inputs.device == self.device:
            return inputs, targets
        pinned = inputs.pin_memory() if self.device.type == "cuda" else inputs
        return pinned.to(self.device, non_blocking=True), targets.to(self.device)

    def order(self, epoch: int) -> Tensor:
        """Indices of the epoch's items in their order, over all ranks: drawn on the CPU, moved once."""
        count = len(self.inputs)
        order = torch.randperm(count, generator=seeded(self.seed, epoch)) if self.shuffle else torch.arange(count)
        return order[: self.items].to(self.inputs.device)  # where the gather is

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.batch, self.under_way = epoch, 0, False

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where Lightning looks for a `sampler` whose `set_epoch` it calls as an epoch begins: this loader itself.

        Needed for an exact resume: Lightning hands the state of a loader back only within an epoch, never at its end.
        """
        return SimpleNamespace(sampler=self)

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.epoch, self.batch, self.under_way = state["epoch"], state["batch"], False


class MemoryData(pl.LightningDataModule):
    """A dataset that fits in memory. A subclass names its `classes` and reads its splits: vectors (N, F) float32.

    `dims` are the facts that the config states: `setup` fills what is missing (None or "???") and asserts the rest.

    After `setup`: `dims`, `classes`, `sizes` (items a split) and `splits` (the tensors). A dataset of known size states
    `sizes` before.
    """

    classes: list[str]
    sizes: Mapping[str, int] = {}

    def __init__(self, dims: Mapping[str, Any], *, data_dir: str = "data", batch_size: int = 32, seed: int = 0):
        super().__init__()
        at_least_one("batch_size", batch_size)
        self.dims = {key: dims.get(key) for key in dims}  # get: a "???" in a config node comes back as None
        self.data_dir, self.batch_size, self.seed = data_dir, batch_size, seed
        self.splits: dict[str, Split] = {}

    def __str__(self) -> str:  # Lightning's asks loaders for what ours do not have
        sizes = ", ".join(f"{count:,} {split}" for split, count in self.sizes.items())
        return f"{type(self).__name__}({sizes or 'not read yet'})"

    __repr__ = __str__

    def read(self) -> dict[str, Split]:
        """The splits train, val and test."""
        raise NotImplementedError

    def fitted(self, inputs: Inputs) -> Inputs:
        """What `read` gave, as it is handed out."""
        return inputs

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        """The dims of these inputs, as a net must know them."""
        return {"features": inputs.shape[1:].numel(), "num_classes": len(self.classes)}

    def labels(self) -> int:
        """How many classes `read` numbers."""
        return len(self.classes)

    def cut(self, splits: dict[str, Split]) -> dict[str, Split]:
        """What is used of the splits that `read` gave."""
        return splits

    def setup(self, stage: str | None = None) -> None:
        if self.splits:  # Lightning calls again before each stage
            return
        read = self.read()
        for name, (_, targets) in read.items():
            self._check_targets(name, targets)
        splits = {name: (self.fitted(inputs), targets) for name, (inputs, targets) in self.cut(read).items()}
        self.dims = self._agreed_dims(splits["train"][0])
        self.sizes = {name: len(targets) for name, (_, targets) in splits.items()}
        self.splits = splits

    def _check_targets(self, split: str, targets: Tensor) -> None:
        """Here, since a device that meets a class which is not there ends with an error that names nothing."""
        outside = (targets < 0) | (targets >= self.labels())
        if outside.any():
            item = int(outside.nonzero()[0])
            label, last = int(targets[item]), self.labels() - 1
            raise UserError(f"{split} split: the label of item {item} is {label}; labels must be from 0 to {last}")

    def absent(self) -> list[str]:
        """Files that have to be downloaded first."""
        return []

    def pretend(self, items: int) -> None:
        """Random items of the true shape, `items` a split, in place of the data: for a pre-flight check."""
        generator = seeded(self.seed)
        inputs = self.pretended(items, generator)
        targets = torch.randint(len(self.classes), (items,), generator=generator)
        self.dims = self._agreed_dims(inputs)
        self.splits = dict.fromkeys(("train", "val", "test"), (inputs, targets))

    def pretended(self, items: int, generator: Generator) -> Tensor:
        features: Any = self.dims["features"]
        return torch.randn(items, features, generator=generator)

    def _agreed_dims(self, inputs: Inputs) -> dict[str, Any]:
        facts = self.facts(inputs)
        for key, fact in facts.items():
            stated = self.dims.get(key)
            if stated not in (None, "???", fact):
                raise UserError(f"data.dims.{key}={stated}: the data's is {fact}")
        return {**self.dims, **facts}

    def train_dataloader(self) -> MemoryLoader:
        # Trainer(overfit_batches=n) means the same n batches again and again, so no shuffling then.
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        return self.loader("train", not overfit, **self.transforms())

    def transforms(self) -> dict[str, Any]:
        """What is done to training batches alone: `augment` and `mix` of the loader."""
        return {}

    def val_dataloader(self) -> MemoryLoader:
        return self.loader("val")

    def test_dataloader(self) -> MemoryLoader:
        return self.loader("test")

    def loader(self, split: str, shuffle: bool = False, **settings: Any) -> MemoryLoader:
        """Any split's loader; as it stands, in order and without transforms, for evaluation."""
        self.setup()
        trainer = self.trainer
        if trainer is not None:
            device = trainer.strategy.root_device
            device = device if device.type == "cuda" else torch.device("cpu")
            settings["device"] = device
            inputs, targets = self.splits[split]
            if inputs.device != device and fits(inputs, device):
                inputs = inputs.to(device)
                self.splits[split] = inputs, targets.to(inputs.device)  # once: there it stays
        return MemoryLoader(
            *self.splits[split],
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            classes=len(self.classes),
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            **settings,
        )


def fits(inputs: Inputs, device: torch.device) -> bool:
    return device.type != "cuda" or in_bytes(inputs) <= SHARE * torch.cuda.mem_get_info(device)[0]


def centre_crop(images: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, at most size, at most size): the middle of the picture."""
    height, width = images.shape[-2:]
    top, left = max(height - size, 0) // 2, max(width - size, 0) // 2
    return images[..., top : top + size, left : left + size]


def ten_views(images: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (10 B, C, size, size): the four corners and the centre, then the five mirrored, of each picture.

    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 4.1.

    >>> images = torch.arange(2).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    >>> views = ten_views(images, 3)
    >>> views.shape, views[:, 0, 0, 0].tolist()
    (torch.Size([20, 3, 3, 3]), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    """
    upper, lower, left, right = images[..., :size, :], images[..., -size:, :], slice(None, size), slice(-size, None)
    five = [part[..., side] for part in (upper, lower) for side in (left, right)] + [centre_crop(images, size)]
    return torch.stack([*five, *(view.flip(3) for view in five)], dim=1).flatten(0, 1)


def at_least_one(key: str, value: Any) -> None:
    """UserError where an argument of a dataset is no whole number from 1 on."""
    if not isinstance(value, int):
        raise UserError(f"data.{key}={value}: must be a whole number")
    if value < 1:
        raise UserError(f"data.{key}={value}: must be at least 1")


def seeded(*parts: int) -> Generator:
    """A CPU generator for these numbers: a hash keeps (1, 2) and (2, 1), or neighbouring epochs, unrelated.

    >>> torch.equal(torch.rand(3, generator=seeded(0, 1)), torch.rand(3, generator=seeded(1, 0)))
    False
    """
    return Generator().manual_seed(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]))


def first_of_each(targets: Tensor, count: int, classes: int, seed: int = 0) -> Tensor:
    """Indices, ascending, of `count` items of each class: those of a smaller count are among those of a larger one.

    ValueError, with the class and how many it has, where a class has fewer.

    >>> first_of_each(torch.tensor([0, 0, 1, 1, 1]), 1, 2).shape
    torch.Size([2])
    """
    have = targets.bincount(minlength=classes)
    if (have < count).any():
        poor = int((have < count).nonzero()[0])
        raise ValueError(poor, int(have[poor]))
    order = torch.from_numpy(np.random.RandomState(seed).permutation(len(targets)))
    order = order[targets[order].argsort(stable=True)]
    starts = have.cumsum(0) - have
    return order[(starts[:, None] + torch.arange(count)).flatten()].sort().values


def stratified(targets: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Indices `(kept, held out)`, ascending; `count` are held out, every class in proportion to within one item.

    Systematic sampling: shuffled, ordered by class, taken at even distances. NumPy's legacy generator shuffles, since
    its stream is frozen (NEP 19) and a split must be the same for good; torch's stream may change with a release.

    >>> kept, held = stratified(torch.tensor([0] * 6 + [1] * 3), 3)
    >>> len(kept), torch.tensor([0] * 6 + [1] * 3)[held].tolist()
    (6, [0, 0, 1])
    """
    order = torch.from_numpy(np.random.RandomState(seed).permutation(len(targets)))
    order = order[targets[order].argsort(stable=True)]
    places = (2 * torch.arange(count) + 1) * len(targets) // (2 * count)  # the middles of `count` equal stretches
    held = torch.zeros(len(targets), dtype=torch.bool)
    held[order[places]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()
