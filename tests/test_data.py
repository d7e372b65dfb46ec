"""The in-memory loader, the digits and the random shift."""

import inspect
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor

from dl_zoo.data.digits import Digits
from dl_zoo.data.fashion_mnist import FashionMNIST
from dl_zoo.data.memory import MemoryLoader, stratified
from dl_zoo.data.mnist import MNIST
from dl_zoo.errors import UserError
from dl_zoo.regularizers.shift import shift

CONFIGS = Path(__file__).parent.parent / "configs" / "data"
ITEMS = 50


def loader(**changes: Any) -> MemoryLoader:
    """50 pictures, the i-th all of value i and of target i, in batches of 8 (so 7 a pass), left in 0..255."""
    images = torch.arange(ITEMS, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 4, 4).contiguous()
    settings = {"batch_size": 8, "mean": [0.0, 0.0], "std": [1 / 255, 1 / 255], "shuffle": True, "seed": 0, **changes}
    return MemoryLoader(images, torch.arange(ITEMS), **settings)


def batches(a_loader: MemoryLoader, count: int) -> list[tuple[Tensor, Tensor]]:
    """The next `count` batches over as many passes as it takes."""
    taken: list[tuple[Tensor, Tensor]] = []
    while len(taken) < count:
        taken += islice(a_loader, count - len(taken))
    return taken


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(one, other, strict=True)
    )


def targets(a_loader: MemoryLoader) -> list[list[int]]:
    return [y.tolist() for _, y in a_loader]


# ---- order -----------------------------------------------------------------------------------------------------------


def test_a_pass_has_every_item_once_in_an_order_of_its_own() -> None:
    one = loader()
    passes = [targets(one) for _ in range(3)]
    for each in passes:
        assert [len(y) for y in each] == [8] * 6 + [2]
        assert sorted(chain(*each)) == list(range(ITEMS))
    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert [targets(again) for again in [loader()] * 3] == passes, "the seed alone fixes the order"
    assert targets(loader(seed=1)) != passes[0]
    torch.manual_seed(5)
    assert targets(loader()) == passes[0], "the global generator has no say"


def test_unshuffled_order_is_that_of_the_tensor() -> None:
    one = loader(shuffle=False)
    assert targets(one) == targets(one) == [list(range(i, min(i + 8, ITEMS))) for i in range(0, ITEMS, 8)]


def test_drop_last() -> None:
    one = loader(drop_last=True)
    assert len(one) == 6
    assert [len(y) for y in targets(one)] == [8] * 6


def test_batches_are_normalised_per_channel() -> None:
    images = torch.randint(256, (20, 3, 5, 5), dtype=torch.uint8)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.4, 0.8]
    one = MemoryLoader(images, torch.arange(20), batch_size=7, mean=mean, std=std, shuffle=True, seed=3)
    for x, y in one:
        expected = (images[y].double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(x, expected.float(), atol=2e-6, rtol=0)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


# ---- the state, and going on exactly ---------------------------------------------------------------------------------


def test_the_state_is_ahead_of_the_batch_in_hand() -> None:
    one = loader()
    assert one.state_dict() == {"epoch": 0, "batch": 0}
    for epoch in range(2):
        for i, _ in enumerate(one):
            assert one.state_dict() == {"epoch": epoch, "batch": i + 1}
    assert one.state_dict() == {"epoch": 1, "batch": 7}


def noise(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + torch.randint(20, images.shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("settings", [{}, {"augment": [noise]}, {"rank": 1, "world_size": 3, "augment": [noise]}])
def test_resume_at_every_batch_equals_the_uninterrupted_run(settings: dict[str, Any]) -> None:
    whole = batches(loader(**settings), 21)
    for stop in range(15):
        first = loader(**settings)
        taken = batches(first, stop)
        second = loader(**settings)
        second.load_state_dict(first.state_dict())
        assert same(taken + batches(second, 21 - stop), whole), stop


def test_resume_is_exact_when_the_consumer_stops_at_the_length() -> None:
    """Lightning never asks for the batch after the last: what follows the last yield does not run."""
    one, whole = loader(), batches(loader(), 14)
    list(islice(one, 7))
    second = loader()
    second.load_state_dict(one.state_dict())
    assert same(list(second), whole[7:])


def test_a_pass_left_midway_is_followed_by_the_next_epoch() -> None:
    whole = [list(batch) for batch in zip(*[iter(batches(loader(), 21))] * 7, strict=True)]
    one = loader()
    for epoch in range(3):
        assert same(list(islice(one, 3)), whole[epoch][:3])
    one = loader()
    iter(one), iter(one)  # an iterator that nobody asks for a batch is no pass
    assert same(list(one), whole[0])
    one.load_state_dict({"epoch": 1, "batch": 5})
    assert same(list(one), whole[1][5:]), "a loaded place is gone on with, once"
    assert same(list(one), whole[2])


def test_set_epoch() -> None:
    whole = batches(loader(), 21)
    one = loader()
    one.set_epoch(2)
    assert same(list(one), whole[14:])
    one.load_state_dict({"epoch": 1, "batch": 4})
    one.set_epoch(1)
    assert same(list(one), whole[11:14]), "the loaded place is in epoch 1 already"


class Recorder(pl.LightningModule):
    """Writes down the targets it is given, and saves a checkpoint at one step, from one hook."""

    def __init__(self, hook: str = "", step: int = -1, path: Path = Path()):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []
        self.saves = {hook: (step, path)}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch[1].tolist())
        return self.weight.sum() * batch[0].mean()

    def save_at(self, hook: str) -> None:
        step, path = self.saves.get(hook, (-1, Path()))
        if self.trainer.global_step == step:
            self.trainer.save_checkpoint(path)

    def on_train_batch_end(self, *_: Any) -> None:
        self.save_at("batch")

    def on_train_epoch_end(self) -> None:
        self.save_at("epoch")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Fifty(Digits):
    def read(self) -> Any:
        one = loader()
        return dict.fromkeys(("train", "val", "test"), (one.inputs, one.targets))


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and the like
@pytest.mark.parametrize("limit", [None, 4])
def test_lightning_resumes_exactly(limit: int | None, tmp_path: Path) -> None:
    """Within an epoch, at its last batch and at its end, also where the passes are cut short."""

    def fit(module: Recorder, checkpoint: Path | None = None) -> list[list[int]]:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            max_epochs=3, limit_train_batches=limit, accelerator="cpu", enable_checkpointing=False, **quiet
        )
        data = Fifty({}, batch_size=8, mean=[0, 0], std=[1, 1])
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return module.seen

    length = limit or 7
    whole = fit(Recorder())
    assert whole == [y for epoch in range(3) for y in targets(at(epoch))[:length]]
    for hook, step in [
        ("batch", 2),
        ("batch", length),
        ("batch", length + 1),
        ("epoch", length),
        ("epoch", 2 * length),
    ]:
        fit(Recorder(hook, step, tmp_path / "x.ckpt"))
        assert fit(Recorder(), tmp_path / "x.ckpt") == whole[step:], (hook, step)


def at(epoch: int) -> MemoryLoader:
    one = loader()
    one.set_epoch(epoch)
    return one


# ---- several ranks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_each_training_batch(world: int) -> None:
    ranks = [loader(rank=rank, world_size=world) for rank in range(world)]
    single = loader()
    for _ in range(2):
        shares = [targets(each) for each in ranks]
        assert len({len(share) for share in shares}) == 1, "or the ranks wait for one another for ever"
        assert [len(share) for share in shares] == [len(each) for each in ranks]
        assert all(len(y) > 0 for share in shares for y in share)
        joined = [sorted(chain(*parts)) for parts in zip(*shares, strict=True)]
        whole = targets(single)
        assert joined[:6] == [sorted(y) for y in whole[:6]]
        assert all(set(part) <= set(y) for part, y in zip(joined, whole, strict=False))
        assert sum(map(len, joined)) == ITEMS - 2 % world


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_evaluation_without_loss_or_repeat(world: int) -> None:
    ranks = [loader(rank=rank, world_size=world, shuffle=False) for rank in range(world)]
    shares = [targets(each) for each in ranks]
    assert [len(share) for share in shares] == [len(each) for each in ranks]
    assert sorted(chain(*chain(*shares))) == list(range(ITEMS))
    assert all(len(y) > 0 for share in shares for y in share)


def test_a_batch_smaller_than_the_world_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=2: fewer than one item for each of 3 processes"):
        loader(batch_size=2, world_size=3)


def test_ranks_draw_their_augmentation_apart() -> None:
    def draws(rank: int) -> list[Tensor]:
        return [x[0] - y[0] for x, y in loader(rank=rank, world_size=2, augment=[noise])]

    assert not any(torch.equal(one, other) for one, other in zip(draws(0), draws(1), strict=True))


# ---- shift -----------------------------------------------------------------------------------------------------------


def test_shift_draws_for_each_picture() -> None:
    picture = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).expand(64, 3, 8, 8)
    moved = shift(picture, torch.Generator().manual_seed(0), pixels=2)
    assert (moved.shape, moved.dtype) == (picture.shape, torch.uint8)
    different = moved.unique(dim=0)
    assert 5 < len(different) <= 25
    windows = torch.nn.functional.pad(picture[:1], (2, 2, 2, 2)).unfold(2, 8, 1).unfold(3, 8, 1)[0]  # (3, 5, 5, 8, 8)
    possible = windows.flatten(1, 2).transpose(0, 1)  # (25, 3, 8, 8)
    assert all(any(torch.equal(each, window) for window in possible) for each in different)


def test_shift_is_its_generators_and_leaves_its_input() -> None:
    pictures = torch.randint(256, (16, 1, 8, 8), dtype=torch.uint8)
    before = pictures.clone()
    one, again, other = (shift(pictures, torch.Generator().manual_seed(seed), 3) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(pictures, before)
    assert torch.equal(shift(pictures, torch.Generator(), 0), pictures)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_loader_is_the_same_on_cuda() -> None:
    settings: dict[str, Any] = {"batch_size": 64, "mean": [0.3], "std": [0.4], "shuffle": True, "seed": 0}
    settings["augment"] = [partial(shift, pixels=2)]
    images, y = torch.randint(256, (500, 1, 32, 32), dtype=torch.uint8), torch.arange(500)
    here = batches(MemoryLoader(images, y, **settings), 12)
    there = batches(MemoryLoader(images.cuda(), y.cuda(), **settings), 12)
    assert all(x.is_cuda for batch in there for x in batch)
    for (x, t), (u, v) in zip(here, there, strict=True):
        torch.testing.assert_close(x, u.cpu(), atol=1e-6, rtol=0)
        assert torch.equal(t, v.cpu())


# ---- the data module -------------------------------------------------------------------------------------------------


def digits(**changes: Any) -> Digits:
    data = Digits(**{**config("digits"), **changes})
    data.setup()
    return data


def config(name: str) -> dict[str, Any]:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return {key: value for key, value in content.items() if key not in ("_target_", "data_dir", "seed")}


@pytest.mark.parametrize("split", ["stratified", "writers"])
def test_digits_splits(split: str) -> None:
    from sklearn.datasets import load_digits

    data = digits(split=split)
    assert data.sizes == {"train": 1077, "val": 360, "test": 360}
    assert (data.classes, data.dims) == ([str(i) for i in range(10)], config("digits")["dims"])
    everything = torch.from_numpy(load_digits().images)
    # A scan is known by its pixels and its target: together the splits are the dataset, each scan once.
    parts = torch.cat([images for images, _ in data.splits.values()]).squeeze(1)
    assert torch.equal(sort_rows(parts), sort_rows((everything * 255 / 16).round().to(torch.uint8)))
    for name, (images, y) in data.splits.items():
        assert (images.dtype, tuple(images.shape[1:]), y.dtype) == (torch.uint8, (1, 8, 8), torch.int64)
        share = y.bincount() / torch.from_numpy(load_digits().target).bincount()
        if (split, name) != ("writers", "test"):
            assert ((share * 179.7 - len(y) / 10).abs() < 3).all(), "every class in proportion"
    if split == "writers":
        assert torch.equal(data.splits["test"][1], torch.from_numpy(load_digits().target)[-360:])


def sort_rows(pictures: Tensor) -> Tensor:
    return torch.tensor(sorted(pictures.flatten(1).tolist()))


def test_digits_splits_are_fixed() -> None:
    one, other = digits(seed=0), digits(seed=7)
    for name in ("train", "val", "test"):
        assert torch.equal(one.splits[name][0], other.splits[name][0])
    assert targets(one.train_dataloader()) != targets(other.train_dataloader()), "only the order is the seed's"
    # The first targets of each split, as they were when results were first recorded.
    assert {name: y[:12].tolist() for name, (_, y) in one.splits.items()} == FIRST_TARGETS


def test_stratified_is_exact_and_in_proportion() -> None:
    y = torch.cat([torch.full((n,), c) for c, n in enumerate([1, 10, 33, 500])])
    kept, held = stratified(y, 100)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(544))
    assert len(held) == 100
    assert ((y[held].bincount(minlength=4) - y.bincount() * 100 / 544).abs() < 1).all()


def test_digits_normalise_to_mean_0_and_deviation_1() -> None:
    data = digits()
    assert data.normalisation == {"mean": [0.3059], "std": [0.3763]}
    x = torch.cat([x for x, _ in data.train_dataloader()])
    assert abs(x.mean()) < 1e-3
    assert abs(x.std() - 1) < 1e-3


def test_digits_are_enlarged_not_shrunk() -> None:
    dims = {"channels": 1, "image_size": 32, "features": 1024, "num_classes": 10}
    data = digits(image_size=32, dims=dims)
    small = digits().splits["test"][0]
    large = data.splits["test"][0]
    assert (large.dtype, tuple(large.shape)) == (torch.uint8, (360, 1, 32, 32))
    back = torch.nn.functional.avg_pool2d(large.float(), 4)
    assert (back - small).abs().mean() < 20, "the same picture"
    with pytest.raises(UserError, match=r"data\.image_size=4: the scans are 8 pixels wide and only enlarged"):
        digits(image_size=4)


def test_dims_are_filled_and_asserted() -> None:
    assert digits(dims={"num_classes": "???", "features": None, "pad_id": None}).dims == {
        "channels": 1,
        "image_size": 8,
        "features": 64,
        "num_classes": 10,
        "pad_id": None,
    }
    with pytest.raises(UserError, match=r"^data\.dims\.num_classes=5: the data's is 10$"):
        digits(dims={"num_classes": 5})
    with pytest.raises(UserError, match=r"data\.mean=\[0\.0, 0\.0\]: the pictures have 1 channel"):
        digits(mean=[0, 0])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": -3}, "data.batch_size=-3: must be at least 1"),
        ({"batch_size": 0}, "data.batch_size=0: must be at least 1"),
        ({"batch_size": 2.5}, "data.batch_size=2.5: must be a whole number"),
        ({"batch_size": None}, "data.batch_size=None: must be a whole number"),
        ({"batch_size": "many"}, "data.batch_size=many: must be a whole number"),
        ({"image_size": 0}, "data.image_size=0: must be at least 1"),
        ({"split": "random"}, "data.split=random: must be stratified or writers"),
    ],
)
def test_bad_settings_are_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        digits(**setting)
    assert str(error.value) == message


def test_setup_reads_once() -> None:
    data = digits()
    splits = data.splits
    data.read = None  # a second reading would fail
    data.setup("fit")
    data.setup("test")
    assert data.splits is splits


def test_loaders_take_their_rank_from_the_trainer() -> None:
    data = digits(augment={"shift": partial(shift, pixels=1)})
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(global_rank=1, world_size=2, strategy=strategy, overfit_batches=0.0)
    train, val, test = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    assert [(each.rank, each.world_size) for each in (train, val, test)] == [(1, 2)] * 3
    assert [(each.shuffle, len(each.augment)) for each in (train, val, test)] == [(True, 1), (False, 0), (False, 0)]
    assert train.inputs.data_ptr() == data.splits["train"][0].data_ptr(), "no copy"
    data.trainer.overfit_batches = 1
    overfit = data.train_dataloader()
    assert next(iter(overfit))[1].tolist() == next(iter(overfit))[1].tolist(), "the same batch in every epoch"


@pytest.mark.parametrize(("name", "of"), [("digits", Digits), ("mnist", MNIST), ("fashion_mnist", FashionMNIST)])
def test_the_config_names_every_argument(name: str, of: Callable[..., Any]) -> None:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert content.pop("_target_") == f"{of.__module__}.{of.__name__}"
    assert set(content) == set(inspect.signature(of).parameters)


FIRST_TARGETS = {
    "train": [2, 5, 6, 8, 9, 0, 2, 3, 4, 7, 5, 6],
    "val": [0, 7, 1, 6, 8, 9, 0, 1, 2, 9, 7, 3],
    "test": [1, 3, 4, 5, 3, 4, 7, 0, 6, 0, 0, 7],
}
