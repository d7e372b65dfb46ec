"""The in-memory loader, the digits and the random shift."""

import importlib
import inspect
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
from dl_zoo.data.memory import MemoryLoader, stratified
from dl_zoo.data.pictures import PictureData
from dl_zoo.data.shapes import Shapes, drawn
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
    classes = [str(i) for i in range(ITEMS)]  # noqa: RUF012

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


# ---- sizes, views and places -----------------------------------------------------------------------------------------


def test_larger_pictures_are_cut_to_their_centre_after_augmentation() -> None:
    images = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6).expand(5, 1, 6, 6)
    seen: list[tuple[int, ...]] = []

    def watch(batch: Tensor, _: torch.Generator) -> Tensor:
        seen.append(tuple(batch.shape))
        return batch

    one = loader_of(images, image_size=4, augment=[watch])
    x, _ = next(iter(one))
    assert seen == [(5, 1, 6, 6)]
    assert torch.equal(x, images[:, :, 1:5, 1:5].float())


def test_ten_views_stand_next_to_each_other() -> None:
    images = torch.randint(256, (3, 2, 6, 6), dtype=torch.uint8)
    x, y = next(iter(loader_of(images, image_size=4, views=10)))
    assert (tuple(x.shape), y.tolist()) == ((30, 2, 4, 4), [0, 1, 2])
    corners = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    for item in range(3):
        plain = [images[item, :, i : i + 4, j : j + 4].float() for i, j in corners]
        for view, expected in zip(x[10 * item :], [*plain, *(each.flip(2) for each in plain)], strict=False):
            assert torch.equal(view, expected)


def loader_of(images: Tensor, **settings: Any) -> MemoryLoader:
    channels = images.shape[1]
    numbers = {"mean": [0.0] * channels, "std": [1 / 255] * channels, "batch_size": 8, "shuffle": False, "seed": 0}
    return MemoryLoader(images, torch.arange(len(images)), **{**numbers, **settings})


def test_ten_views_are_of_evaluation_alone() -> None:
    data = digits(image_size=8, resize=10, views=10, dims={})
    assert (data.dims["image_size"], data.splits["train"][0].shape[-1]) == (8, 10)
    assert next(iter(data.val_dataloader()))[0].shape[0] == 320
    data.trainer = SimpleNamespace(
        global_rank=0, world_size=1, strategy=SimpleNamespace(root_device=torch.device("cpu")), overfit_batches=0.0
    )
    assert tuple(next(iter(data.train_dataloader()))[0].shape) == (32, 1, 8, 8)


def test_batches_of_what_lies_elsewhere_are_moved_before_the_transforms() -> None:
    there: list[torch.device] = []

    def watch(batch: Tensor, _: torch.Generator) -> Tensor:
        there.append(batch.device)
        return batch

    one = loader_of(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), device=torch.device("meta"), augment=[watch])
    x, y = next(iter(one))
    assert {x.device.type, y.device.type, there[0].type} == {"meta"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_what_does_not_fit_on_the_device_stays_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SimpleNamespace(global_rank=0, world_size=1, overfit_batches=0.0)
    trainer.strategy = SimpleNamespace(root_device=torch.device("cuda", 0))
    fits, host = digits(), digits()
    fits.trainer = host.trainer = trainer
    here = list(fits.val_dataloader())
    monkeypatch.setattr("dl_zoo.data.memory.SHARE", 0.0)
    there = list(host.val_dataloader())
    assert fits.splits["val"][0].is_cuda
    assert not host.splits["val"][0].is_cuda
    for (x, y), (u, v) in zip(here, there, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)


# ---- a part of the data ----------------------------------------------------------------------------------------------


def test_classes_are_renumbered_in_the_order_given() -> None:
    whole, part = digits(), digits(classes=["7", "2"])
    assert (part.classes, part.dims["num_classes"]) == (["7", "2"], 2)
    for name, (images, y) in whole.splits.items():
        kept = (y == 7) | (y == 2)
        assert torch.equal(part.splits[name][0], images[kept])
        assert torch.equal(part.splits[name][1], (y[kept] == 2).long())


def test_labels_per_class() -> None:
    few, more, other = (digits(labels_per_class=n, seed=seed) for n, seed in ((5, 0), (20, 0), (5, 3)))
    assert few.splits["train"][1].bincount().tolist() == [5] * 10
    assert torch.equal(few.splits["train"][0], other.splits["train"][0]), "whatever the run's seed"
    rows = {tuple(row) for row in more.splits["train"][0].flatten(1).tolist()}
    assert all(tuple(row) in rows for row in few.splits["train"][0].flatten(1).tolist())
    assert few.sizes == {"train": 50, "val": 360, "test": 360}


def test_train_items() -> None:
    data = digits(train_items=100)
    assert data.sizes["train"] == 100
    assert data.splits["train"][1].bincount().min() >= 9
    assert digits(train_items=5000).sizes["train"] == 1077, "no more than there are"


class Wrong(Digits):
    def read(self) -> Any:
        splits = super().read()
        images, y = splits["val"]
        y[3] = self.label
        return {**splits, "val": (images, y)}


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_out_of_range(label: int) -> None:
    data = Wrong(config("digits")["dims"], mean=[0], std=[1])
    data.label = label
    with pytest.raises(UserError) as error:
        data.setup()
    assert str(error.value) == f"val split: the label of item 3 is {label}; labels must be from 0 to 9"


# ---- shapes ----------------------------------------------------------------------------------------------------------


def test_shapes() -> None:
    data = Shapes(**config("shapes"))
    data.setup()
    assert data.sizes == Shapes.sizes
    assert data.dims == config("shapes")["dims"]
    pixels = data.splits["train"][0].double() / 255
    for measured, stated in ((pixels.mean((0, 2, 3)), "mean"), (pixels.std((0, 2, 3)), "std")):
        torch.testing.assert_close(measured.tolist(), data.normalisation[stated], atol=1e-4, rtol=0)
    assert data.splits["val"][1].bincount().tolist() == [67, 67, 67, 67, 66, 66]
    again = drawn(2000, 0.15, 0)[0]
    assert torch.equal(again, data.splits["train"][0])
    assert not torch.equal(again[:400], data.splits["val"][0])


# ---- the data module -------------------------------------------------------------------------------------------------


def digits(**changes: Any) -> Digits:
    data = Digits(**{**config("digits"), **changes})
    data.setup()
    return data


def config(name: str) -> dict[str, Any]:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    del content["card"]
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
        ({"resize": 4, "image_size": 8}, "data.resize=4: must be at least data.image_size, 8"),
        ({"views": 5}, "data.views=5: must be 1 or 10"),
        ({"views": 10}, "data.views=10: its crops need data.resize above data.image_size"),
        ({"classes": ["1"]}, "data.classes=[1]: must be at least two names, each once"),
        ({"classes": ["1", "one"]}, "data.classes: no class is called one; there are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ({"labels_per_class": 0}, "data.labels_per_class=0: must be at least 1"),
        ({"labels_per_class": 5000}, "data.labels_per_class=5000: class 0 has 106 training picture(s)"),
        (
            {"labels_per_class": 5, "train_items": 5},
            "data.labels_per_class and data.train_items: one of them at a time",
        ),
        ({"dims": {"channels": 3}}, "1-channel pictures in a 3-channel set: data.dims.channels must be theirs"),
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


PICTURES = (
    "digits",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "cifar10_jpg",
    "image_folder",
    "imagenet",
    "shapes",
)


@pytest.mark.parametrize("name", PICTURES)
def test_the_config_names_every_argument(name: str) -> None:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    del content["card"]
    module, _, of = content.pop("_target_").rpartition(".")
    own = getattr(importlib.import_module(module), of)
    taken = chain(
        *(inspect.signature(each.__init__).parameters for each in own.__mro__ if issubclass(each, PictureData))
    )
    unused = {"val_share", "test_share"} if name == "imagenet" else set()  # its splits are of fixed size
    assert set(content) == set(taken) - {"self", "settings"} - unused


FIRST_TARGETS = {
    "train": [2, 5, 6, 8, 9, 0, 2, 3, 4, 7, 5, 6],
    "val": [0, 7, 1, 6, 8, 9, 0, 1, 2, 9, 7, 3],
    "test": [1, 3, 4, 5, 3, 4, 7, 0, 6, 0, 0, 7],
}


def test_evaluation_brings_pictures_to_its_own_size_before_it_cuts() -> None:
    """What is kept large for the sake of augmentation is not looked at through a keyhole."""
    images = torch.arange(64, dtype=torch.uint8).mul(4).expand(2, 1, 64, 64).contiguous()  # dark at the left
    seen = {}
    for scale_to in (None, 40):
        loader = MemoryLoader(
            images, torch.zeros(2, dtype=torch.int64), batch_size=2, shuffle=False, seed=0, mean=[0.0], std=[1.0],
            image_size=32, scale_to=scale_to,
        )  # fmt: skip
        inputs, _ = next(iter(loader))
        assert inputs.shape == (2, 1, 32, 32)
        seen[scale_to] = float(inputs.max() - inputs.min())
    assert seen[None] == pytest.approx(31 * 4 / 255, abs=0.01)
    assert seen[40] == pytest.approx(31 * 64 / 40 * 4 / 255, abs=0.02)


def test_a_dataset_can_be_printed() -> None:
    data = digits()
    assert str(data) == "Digits(1,077 train, 360 val, 360 test)"
    assert repr(Shapes({})) != ""
