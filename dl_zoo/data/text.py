"""Batches of text: windows of one long text, for language models; `pairs.py` has those of translators.

The loaders of both keep the contract of `memory.MemoryLoader`: a batch is a pure function of (seed, epoch, batch), the
state is {"epoch", "batch"} and moves before the batch is handed out, `set_epoch` names the epoch of the next pass, and
each of `world_size` ranks takes every world_size-th item of a batch, from its own `rank` on.
"""

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from dl_zoo.data.memory import at_least_one, fits, seeded
from dl_zoo.data.vocabulary import SPECIALS, Vocabulary, restored
from dl_zoo.errors import UserError

IGNORED = -100  # a target that no loss counts


class Batches:
    """The place in a run of passes. A subclass says what an epoch is (`plan`) and what a batch of it is (`taken`)."""

    length: int  # batches of a pass, the same in each

    def __init__(self, *, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1):
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        self.epoch, self.batch, self.under_way = 0, 0, False

    def plan(self, epoch: int) -> Any:
        raise NotImplementedError

    def taken(self, plan: Any, batch: int) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        if self.under_way or self.batch >= len(self):
            self.epoch, self.batch = self.epoch + 1, 0
        epoch, plan = self.epoch, self.plan(self.epoch)
        for batch in range(self.batch, len(self)):
            content = self.taken(plan, batch)
            # Before the yield: what follows the last one never runs when the consumer stops at len().
            self.epoch, self.batch, self.under_way = epoch, batch + 1, True
            yield content

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.batch, self.under_way = epoch, 0, False

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where Lightning looks for a `sampler` whose `set_epoch` it calls: this loader itself (see MemoryLoader)."""
        return SimpleNamespace(sampler=self)

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.epoch, self.batch, self.under_way = state["epoch"], state["batch"], False


class TextLoader(Batches):
    """Windows of a text (N,): inputs (B, T) and the token that follows each, targets (B, T), both int64.

    Shuffled, for training: the text is cut into windows side by side, from a place in 0..T-1 that each epoch draws
    anew, and they come in random order. So an epoch is one pass, every token but the ends' is a target once, and over
    the epochs windows begin everywhere. Windows drawn at random would miss 1/e = 37 % of the text in such a pass.

    In order, for evaluation: windows from the first token on, so that every token but the first is a target exactly
    once; what is missing from the last window is `fill` in the inputs and -100 in the targets.

    `batch_size` counts windows, over all ranks. `ids` may be of any integer type and on any device.
    """

    def __init__(
        self,
        ids: Tensor,
        *,
        context: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        fill: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        if batch_size < world_size:
            raise UserError(f"data.batch_size={batch_size}: fewer than one item for each of {world_size} processes")
        self.context, self.batch_size, self.fill = context, batch_size, fill
        self.windows = windows_of(len(ids), context, shuffle)
        self.shifts = min(context, len(ids) - self.windows * context) if shuffle else 1
        spare = self.windows * context + 1 - len(ids)
        ids = ids if spare <= 0 else torch.cat([ids, ids.new_full((spare,), IGNORED)])
        self.views = ids.unfold(0, context + 1, 1)  # (N - T, T + 1): every window, without a copy
        self.items = self.windows - (self.windows % batch_size % world_size if shuffle else 0)
        full, tail = divmod(self.items, batch_size)
        self.length = full + (tail > rank)

    def plan(self, epoch: int) -> Tensor:
        """Where the epoch's windows start, in their order: drawn on the CPU, moved once."""
        if self.shuffle:
            generator = seeded(self.seed, epoch)
            shift = torch.randint(self.shifts, (1,), generator=generator)
            starts = torch.randperm(self.windows, generator=generator) * self.context + shift
        else:
            starts = torch.arange(self.windows) * self.context
        return starts[: self.items].to(self.views.device)

    def taken(self, plan: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        first = batch * self.batch_size
        starts = plan[first + self.rank : first + self.batch_size : self.world_size]
        rows = self.views.index_select(0, starts)  # (B, T + 1)
        inputs, targets = rows[:, :-1].long(), rows[:, 1:].long()
        return inputs if self.shuffle else inputs.masked_fill(inputs == IGNORED, self.fill), targets


def windows_of(count: int, context: int, shuffle: bool) -> int:
    """Windows of a text of `count` tokens: in order all, shuffled those that fit wherever the first begins.

    >>> windows_of(1_003_854, 64, True), windows_of(111_540, 64, False), windows_of(5, 4, True)
    (15684, 1743, 1)
    """
    return max(1, count // context - 1) if shuffle else -(-(count - 1) // context)


class TextData(pl.LightningDataModule):
    """Text by splits, with a vocabulary. A subclass says how it is read (`read`) and batched (`batches`).

    `dims` are the facts that the config states: `setup` fills what is missing (None or "???") and asserts the rest.

    After `setup`: `dims`, `sizes` (items a split), `splits`, `words` (the vocabulary) and `vocabulary`, the same as
    plain data. Where `vocabulary` is set before, from a checkpoint, it is used as it is and nothing is fitted;
    `takes_vocabulary` says that this may be done with another run's.
    """

    takes_vocabulary = True
    classes: list[str] | None = None
    sizes: Mapping[str, int] = {}

    def __init__(self, dims: Mapping[str, Any], *, data_dir: str = "data", batch_size: int = 32, seed: int = 0):
        super().__init__()
        at_least_one("batch_size", batch_size)
        self.dims: dict[str, Any] = {key: dims.get(key) for key in dims}
        self.data_dir, self.batch_size, self.seed = data_dir, batch_size, seed
        self.vocabulary: dict[str, Any] | None = None
        self.words: Vocabulary | None = None
        self.splits: dict[str, Any] = {}

    def __str__(self) -> str:  # Lightning's asks loaders for what ours do not have
        sizes = ", ".join(f"{count:,} {split}" for split, count in self.sizes.items())
        return f"{type(self).__name__}({sizes or 'not read yet'})"

    __repr__ = __str__

    def read(self) -> dict[str, Any]:
        """The splits train, val and test: a tensor or a tuple of tensors each. Calls `settle` with its vocabulary."""
        raise NotImplementedError

    def batches(self, split: str, shuffle: bool, rank: int, world_size: int) -> Batches:
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """The dims, as a net must know them."""
        assert self.words is not None
        return {"vocab_size": len(self.words), "pad_id": self.words.pad, **special(self.dims, self.words)}

    def counted(self) -> dict[str, int]:
        """Items of each split."""
        return {name: len(split[0] if isinstance(split, tuple) else split) for name, split in self.splits.items()}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:  # Lightning calls again before each stage
            return
        splits = self.read()
        self.dims = agreed(self.dims, self.facts())
        self.splits = splits
        self.sizes = self.counted()

    def settle(self, fit: Callable[[], Vocabulary]) -> Vocabulary:
        """The vocabulary: that of the checkpoint where there is one, else what `fit` gives."""
        self.words, self.vocabulary = settled(self.vocabulary, fit)
        return self.words

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """As Lightning's, but that the lengths of pairs stay on the CPU: packing reads them there, without a wait.

        Here and not in the task: a module with a hook of its own goes Lightning's longer way (`dl_zoo.loop`).
        """
        inputs, *others = batch
        if not isinstance(inputs, tuple | list):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        moving = [(*inputs[:-1],), *others]
        (source, target), *others = super().transfer_batch_to_device(moving, device, dataloader_idx)
        return (source, target, inputs[-1]), *others

    def absent(self) -> list[str]:
        """Files that have to be downloaded first."""
        return []

    def train_dataloader(self) -> Batches:
        # Trainer(overfit_batches=n) means the same n batches again and again, so no shuffling then.
        return self.loader("train", not getattr(self.trainer, "overfit_batches", 0) > 0)

    def val_dataloader(self) -> Batches:
        return self.loader("val")

    def test_dataloader(self) -> Batches:
        return self.loader("test")

    def loader(self, split: str, shuffle: bool = False) -> Batches:
        """Any split's loader; as it stands, in order, for evaluation."""
        self.setup()
        trainer = self.trainer
        if trainer is None:
            return self.batches(split, shuffle, 0, 1)
        if (device := trainer.strategy.root_device).type == "cuda":
            self.splits[split] = moved(self.splits[split], device)  # once: there it stays
        return self.batches(split, shuffle, trainer.global_rank, trainer.world_size)


def moved(tensors: Any, device: torch.device) -> Any:
    if isinstance(tensors, tuple):
        return tuple(moved(each, device) for each in tensors)
    return tensors.to(device) if fits(tensors, device) else tensors


def masked(dims: Mapping[str, Any], mask: int | None) -> dict[str, int | None]:
    """`mask_id` where the dims know of it."""
    return {"mask_id": mask} if mask is not None or "mask_id" in dims else {}


def special(dims: Mapping[str, Any], words: Vocabulary) -> dict[str, Any]:
    """`mask_id` where the dims know of it; `special_ids` where they are others than the first four, or none."""
    ids = sorted(each for each in (words.pad, words.bos, words.eos, words.unk) if each is not None)
    elsewhere = {"special_ids": ids} if ids and ids != list(range(len(SPECIALS))) else {}
    return {**masked(dims, words.mask), **elsewhere}


def agreed(dims: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The stated dims, completed by the facts. UserError where they contradict one another."""
    for key, fact in facts.items():
        if dims.get(key) not in (None, "???", fact):
            raise UserError(f"data.dims.{key}={dims[key]}: the data's is {fact}")
    return {**dims, **facts}


def settled(vocabulary: Mapping[str, Any] | None, fit: Callable[[], Vocabulary]) -> tuple[Vocabulary, dict[str, Any]]:
    """The vocabulary as an object and as plain data: the given one, else the fitted one. UserError: a damaged one."""
    try:
        words = restored(vocabulary) if vocabulary else fit()
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"the vocabulary cannot be read: {error}") from error
    return words, words.plain()
