"""Small picture datasets, held whole: a uint8 tensor of images, an int64 tensor of targets, and the loader over them.

No workers and no Python per picture: a batch is one gather, one cast, and in place one multiply and one add. For 128
pictures of 1x32x32 that takes 0.04 ms on two cores. Slower: `images[index]` for the gather (0.11), `addcmul` for the
last two (0.06). A float32 copy of the dataset, at four times the memory, would win 0.01.
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

from dl_zoo.errors import UserError

Augment = Callable[[Tensor, Generator], Tensor]  # (B, C, H, W) uint8 -> the same
Mix = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]  # normalised inputs, targets (B, K) -> the same
Split = tuple[Tensor, Tensor]  # images (N, C, H, W) uint8, targets (N,) int64


class MemoryLoader:
    """Batches `(inputs (B, C, H, W) float32 normalised, targets (B,) int64)`, pure functions of (seed, epoch, batch).

    The order of an epoch is a permutation drawn from (seed, epoch) alone, and the draws of `augment` and `mix` come
    from (seed, epoch, batch, rank), so a run that stops anywhere goes on exactly, with no generator's state to keep.
    Where pictures are mixed, targets are probabilities (B, `classes`) float32.

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
        images: Tensor,
        targets: Tensor,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        shuffle: bool,
        seed: int,
        augment: Sequence[Augment] = (),
        mix: Sequence[Mix] = (),
        classes: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ):
        if batch_size < world_size:
            raise UserError(f"data.batch_size={batch_size}: fewer than one item for each of {world_size} processes")
        self.images, self.targets = images, targets
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.augment, self.mix, self.classes = tuple(augment), tuple(mix), classes
        self.rank, self.world_size = rank, world_size

        tail = len(images) % batch_size
        left_out = tail if drop_last else tail % world_size if shuffle else 0
        self.items = len(images) - left_out
        full, tail = divmod(self.items, batch_size)
        self.length = full + (tail > rank)

        # (x / 255 - mean) / std as one multiply and one add, each (C, 1, 1)
        spread, centre = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (std, mean))
        self.scale, self.offset = 1 / (255 * spread), -centre / spread

        self.epoch, self.batch, self.under_way = 0, 0, False

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.under_way or self.batch >= len(self):
            self.epoch, self.batch = self.epoch + 1, 0
        epoch, order = self.epoch, self.order(self.epoch)
        for batch in range(self.batch, len(self)):
            start = batch * self.batch_size
            share = order[start + self.rank : start + self.batch_size : self.world_size]
            pictures = self.images.index_select(0, share)
            targets = self.targets.index_select(0, share)
            if self.augment or self.mix:
                generator = seeded(self.seed, epoch, batch, self.rank)
            for transform in self.augment:
                pictures = transform(pictures, generator)
            inputs = pictures.float().mul_(self.scale).add_(self.offset)
            if self.mix:
                targets = F.one_hot(targets, self.classes).float()
            for mix in self.mix:
                inputs, targets = mix(inputs, targets, generator)
            # Before the yield: what follows the last one never runs when the consumer stops at len().
            self.epoch, self.batch, self.under_way = epoch, batch + 1, True
            yield inputs, targets

    def order(self, epoch: int) -> Tensor:
        """Indices of the epoch's items in their order, over all ranks: drawn on the CPU, moved once."""
        count = len(self.images)
        order = torch.randperm(count, generator=seeded(self.seed, epoch)) if self.shuffle else torch.arange(count)
        return order[: self.items].to(self.images.device)

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
    """A dataset whose pictures fit in memory. A subclass names its `classes`, reads its splits and fits them to a size.

    `dims` are the facts that the config states: `setup` fills what is missing (None or "???") and asserts the rest.
    `image_size` None keeps the pictures' own. `mean` and `std`, one a channel, are of pixels in 0..1; the defaults
    leave them there. For training batches, `augment` maps names to functions `(images uint8, generator) -> images`, and
    `mix` to functions `(inputs, class probabilities, generator) -> the same two`.

    After `setup`: `dims`, `classes`, `normalisation`, `sizes` (items a split) and `splits` (the tensors). A dataset of
    known size states `sizes` before.
    """

    classes: list[str]
    sizes: Mapping[str, int] = {}

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
        super().__init__()
        for key, value in (("batch_size", batch_size), ("image_size", 1 if image_size is None else image_size)):
            if not isinstance(value, int):
                raise UserError(f"data.{key}={value}: must be a whole number")
            if value < 1:
                raise UserError(f"data.{key}={value}: must be at least 1")
        self.dims = {key: dims.get(key) for key in dims}  # get: a "???" in a config node comes back as None
        self.data_dir, self.batch_size, self.image_size, self.seed = data_dir, batch_size, image_size, seed
        self.normalisation = {"mean": [float(m) for m in mean], "std": [float(s) for s in std]}
        self.augment, self.mix = dict(augment or {}), dict(mix or {})
        self.splits: dict[str, Split] = {}

    def read(self) -> dict[str, Split]:
        """The splits train, val and test at their own size."""
        raise NotImplementedError

    def fit_to(self, images: Tensor, size: int) -> Tensor:
        """(N, C, H, W) -> (N, C, size, size), both uint8. UserError when these pictures cannot be had at that size."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if self.splits:  # Lightning calls again before each stage
            return
        splits = self.read()
        if self.image_size is not None:
            splits = {name: (self.fit_to(images, self.image_size), y) for name, (images, y) in splits.items()}
        self.dims = self._agreed_dims(splits["train"][0])
        self.sizes = {name: len(targets) for name, (_, targets) in splits.items()}
        self.splits = splits

    def absent(self) -> list[str]:
        """Files that have to be downloaded first."""
        return []

    def pretend(self, items: int) -> None:
        """Random pictures of the true shape, `items` a split, instead of those on the disk: for a pre-flight check."""
        channels: Any = self.dims["channels"]
        size: Any = self.image_size or self.dims["image_size"]
        generator = seeded(self.seed)
        pictures = torch.randint(256, (items, channels, size, size), dtype=torch.uint8, generator=generator)
        targets = torch.randint(len(self.classes), (items,), generator=generator)
        self.dims = self._agreed_dims(pictures)
        self.splits = dict.fromkeys(("train", "val", "test"), (pictures, targets))

    def _agreed_dims(self, images: Tensor) -> dict[str, Any]:
        _, channels, height, width = images.shape
        for key, values in self.normalisation.items():
            if len(values) != channels:
                raise UserError(f"data.{key}={values}: the pictures have {channels} channel(s)")
        facts = {
            "channels": channels,
            "image_size": height,
            "features": channels * height * width,
            "num_classes": len(self.classes),
        }
        for key, fact in facts.items():
            stated = self.dims.get(key)
            if stated not in (None, "???", fact):
                raise UserError(f"data.dims.{key}={stated}: the data's is {fact}")
        return {**self.dims, **facts}

    def train_dataloader(self) -> MemoryLoader:
        # Trainer(overfit_batches=n) means the same n batches again and again, so no shuffling then.
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        return self.loader("train", not overfit, list(self.augment.values()), list(self.mix.values()))

    def val_dataloader(self) -> MemoryLoader:
        return self.loader("val")

    def test_dataloader(self) -> MemoryLoader:
        return self.loader("test")

    def loader(
        self, split: str, shuffle: bool = False, augment: Sequence[Augment] = (), mix: Sequence[Mix] = ()
    ) -> MemoryLoader:
        """Any split's loader; as it stands, in order and unaugmented, for evaluation."""
        self.setup()
        trainer = self.trainer
        if trainer is not None:
            device = trainer.strategy.root_device
            device = device if device.type == "cuda" else torch.device("cpu")
            images, targets = self.splits[split]
            self.splits[split] = images.to(device), targets.to(device)  # once: there it stays
        return MemoryLoader(
            *self.splits[split],
            batch_size=self.batch_size,
            mean=self.normalisation["mean"],
            std=self.normalisation["std"],
            shuffle=shuffle,
            seed=self.seed,
            augment=augment,
            mix=mix,
            classes=len(self.classes),
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
        )


def seeded(*parts: int) -> Generator:
    """A CPU generator for these numbers: a hash keeps (1, 2) and (2, 1), or neighbouring epochs, unrelated.

    >>> torch.equal(torch.rand(3, generator=seeded(0, 1)), torch.rand(3, generator=seeded(1, 0)))
    False
    """
    return Generator().manual_seed(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]))


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
