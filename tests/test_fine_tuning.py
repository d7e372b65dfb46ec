"""Fine-tuning: what is held still, what learns how fast, what joins later; and a net that is taught other classes."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import assert_same, trained
from torch import Tensor, nn

import dl_zoo
from dl_zoo import checkpoints
from dl_zoo.commands.train import configuration
from dl_zoo.compose import compose, with_values
from dl_zoo.dataset import other_pictures
from dl_zoo.errors import UserError
from dl_zoo.freezing import freeze, release
from dl_zoo.optimizers import build_optimizer
from dl_zoo.regularizers.gradual_unfreezing import GradualUnfreezing
from dl_zoo.run import Result, run
from dl_zoo.stages import heads, stages
from dl_zoo.tasks.classification import Classification

TINY = ["model=resnet20", "model.width=4", "data.batch_size=64", "optimizer=momentum", "trainer.limit_train_batches=2"]


def meta(name: str, **arguments: Any) -> Any:
    with torch.device("meta"):
        return dl_zoo.create_model(name, **arguments)


def small(affine: bool = True) -> nn.Sequential:
    """A body with a norm, and a head."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.Flatten(), nn.Linear(4, 2))


def moved(net: nn.Module, norm: int = 1) -> bool:
    """Does a pass in training mode move the running mean?"""
    statistics: Tensor = net[norm].running_mean  # type: ignore[index]
    before = statistics.clone()
    net.train()(torch.randn(8, 1, 3, 3) + 1)
    return not torch.equal(before, statistics)


def last(result: Result) -> dict[str, Tensor]:
    return checkpoints.net_state(checkpoints.read(checkpoints.find(result.folder, "last")))


# ---- stages ----------------------------------------------------------------------------------------------------------

BLOCKS = [f"layer{i}" for i in range(1, 5)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", [["conv1", "bn1"], *([block] for block in BLOCKS), ["fc"]]),
        (
            "vgg11",
            [*([f"features.{i}" for i in part] for part in ([0], [3], [6, 8], [11, 13], [16, 18])),
             ["classifier.0", "classifier.3"], ["classifier.6"]],
        ),
        ("vgg11_bn", [[f"features.{i}" for i in part] for part in ([0, 1], [4, 5], [8, 9, 11, 12])]),
        ("lenet5", [["c1"], ["c3"], ["c5"], ["f6"], ["output"]]),
        ("mlp", [["layers.0"], ["layers.1"], ["head"]]),
    ],
)  # fmt: skip
def test_stages_from_bottom_to_top(name: str, expected: list[list[str]]) -> None:
    net = meta(name)
    found = stages(net)
    assert sorted(name for stage in found for name in stage) == sorted(name for name, _ in net.named_parameters())
    for stage, modules in zip(found, expected, strict=name != "vgg11_bn"):
        depth = modules[0].count(".") + 1
        assert list(dict.fromkeys(".".join(each.split(".")[:depth]) for each in stage)) == modules


def test_heads_are_those_that_the_net_names_else_the_last_module() -> None:
    assert heads(meta("vgg11")) == ("classifier.6",)
    assert heads(small()) == ("3",)
    assert heads(meta("perceptron")) == ("response",)


# ---- freezing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("globs", "learn"),
    [
        (["backbone"], ["fc.weight", "fc.bias"]),
        (["backbone", "!layer4.1.bn2"], ["layer4.1.bn2.weight", "layer4.1.bn2.bias", "fc.weight", "fc.bias"]),
        (["!fc.bias", "*", "!*.bias"], None),
        (["conv1", "bn1", "layer[123]", "layer4.0", "layer4.1.*", "fc.weight"], ["fc.bias"]),
    ],
)
def test_the_last_glob_that_matches_decides(globs: list[str], learn: list[str] | None) -> None:
    net = meta("resnet18")
    freeze(net, globs)
    every = [name for name, _ in net.named_parameters()]
    expected = [name for name in every if name.endswith(".bias")] if learn is None else learn
    assert [name for name, parameter in net.named_parameters() if parameter.requires_grad] == expected


def test_a_freeze_that_matches_nothing_stops_before_training(cli: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"freeze=layr2: no parameter has such a name; did you mean layer2"):
        freeze(meta("resnet18"), ["backbone", "!layr2"])
    said = cli("train", *TINY, "trainer=cpu", "freeze=[body]")
    assert said.code == 2
    assert "freeze=body: no parameter has such a name; there are backbone, bn1, conv1, fc, layer1" in said.err
    assert not Path("runs").exists()


def test_a_frozen_norm_does_not_count_whatever_the_mode() -> None:
    net = small()
    assert moved(net)
    freeze(net, ["1.weight"])
    assert moved(net)  # its bias learns
    freeze(net, ["1"])
    assert not moved(net)
    assert not net[1].training
    for each in (copy.deepcopy(net), net):
        release(each[1])
        assert moved(each)
    plain = small(affine=False)
    freeze(plain, ["3"])
    assert moved(plain)
    freeze(plain, ["0"])  # it has no parameters: it goes with the convolution before it
    assert not moved(plain)


# ---- learning rates --------------------------------------------------------------------------------------------------


def built(net: nn.Module, *overrides: str, **factors: float) -> torch.optim.Optimizer:
    cfg = compose(["optimizer=adamw", "optimizer.lr=1.0", *overrides])
    cfg = with_values(cfg, {"optimizer.lr_factors": factors})
    task = Classification(net, num_classes=10, optimizer=build_optimizer(cfg.optimizer))
    return task.optimizer_over([parameter for parameter in net.parameters() if parameter.requires_grad])


def rates(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_each_stage_learns_slower_than_the_one_above() -> None:
    net = meta("resnet18")
    optimizer = built(net, "optimizer.stage_factor=2")
    found = rates(net, optimizer)
    expected = {"fc.bias": 1, "layer4.0.conv1.weight": 1 / 2, "layer1.0.conv1.weight": 1 / 16, "bn1.weight": 1 / 32}
    assert {name: found[name] for name in expected} == expected
    assert len(found) == len(list(net.parameters()))
    assert [group["lr"] for group in optimizer.param_groups] == [2.0**-i for i in range(6)]  # train/lr logs the first


def test_factors_by_glob_the_first_that_matches() -> None:
    net = meta("lenet5")
    found = rates(net, built(net, **{"c3.bias": 0.0, "c*": 0.5, "backbone": 0.1}))
    assert found == {
        "c1.weight": 0.5, "c1.bias": 0.5, "c3.weight": 0.5, "c3.bias": 0.0, "c5.weight": 0.5, "c5.bias": 0.5,
        "f6.weight": 0.1, "f6.bias": 0.1, "output.weight": 1.0, "output.bias": 1.0,
    }  # fmt: skip
    both = rates(net, built(net, "optimizer.stage_factor=10", output=3.0))
    assert (both["output.bias"], both["f6.bias"], both["c5.bias"]) == (3.0, 0.1, 0.01)


def test_rates_go_with_frozen_parts_decay_and_schedules() -> None:
    net = meta("lenet5")
    freeze(net, ["c1", "c3"])
    optimizer = built(net, "optimizer.stage_factor=2", "optimizer.decay_biases_and_norms=false")
    shape = [(group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    assert shape == [(1, 0.01, 1), (1, 0, 1), (0.5, 0.01, 1), (0.5, 0, 1), (0.25, 0.01, 1), (0.25, 0, 1)]
    from dl_zoo.schedules import cosine

    schedule = cosine(optimizer, total_steps=10)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups][::2] == pytest.approx([0.5, 0.25, 0.125])


def test_without_these_keys_there_is_one_group_in_the_order_of_the_net() -> None:
    net = meta("lenet5")
    (group,) = built(net).param_groups
    assert all(a is b for a, b in zip(group["params"], net.parameters(), strict=True))
    assert "param_names" not in group


@pytest.mark.parametrize(
    ("overrides", "factors", "said"),
    [
        ([], {"c9": 1.0}, r"optimizer\.lr_factors=c9: no parameter has such a name; there are backbone, c1, c3"),
        ([], {"c1": -1.0}, r"optimizer\.lr_factors\.c1=-1\.0: must be a number of at least 0"),
        ([], {"c1": "fast"}, r"optimizer\.lr_factors\.c1=fast: must be a number"),
        (["optimizer.stage_factor=0"], {}, r"optimizer\.stage_factor=0: must be above 0"),
    ],
)
def test_rates_that_cannot_be(overrides: list[str], factors: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        built(meta("lenet5"), *overrides, **factors)


# ---- gradual unfreezing ----------------------------------------------------------------------------------------------


def test_stages_join_from_the_top_with_their_norms() -> None:
    """Every second epoch; what is frozen for good is no stage, and the end of the training lets all others go."""
    first, second = (nn.Sequential(nn.Conv2d(n, 4, size), nn.BatchNorm2d(4)) for n, size in ((1, 1), (4, 3)))
    net = nn.Sequential(first, second, nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 2))
    freeze(net, ["3"])
    callback = GradualUnfreezing(every=2)
    trainer, task = SimpleNamespace(strategy=None, world_size=1, current_epoch=0), SimpleNamespace(net=net)
    callback.setup(trainer, task, "fit")
    for epoch, learn in enumerate(["4", "4", "14", "14", "014", "014", "014"]):
        trainer.current_epoch = epoch
        callback.on_train_batch_start(trainer, task)
        assert {name[0] for name, p in net.named_parameters() if p.requires_grad} == set(learn)
        before = [part[1].running_mean.clone() for part in (first, second)]
        net.train()(torch.randn(8, 1, 3, 3) + 1)
        counted = [not torch.equal(part[1].running_mean, b) for part, b in zip((first, second), before, strict=True)]
        assert counted == ["0" in learn, "1" in learn]
    trainer.current_epoch = 0
    callback.on_train_batch_start(trainer, task)
    callback.on_fit_end(trainer, task)
    assert {name[0] for name, p in net.named_parameters() if p.requires_grad} == set("014")


def test_several_devices_need_a_strategy_that_knows_unused_parameters() -> None:
    trainer = SimpleNamespace(strategy=SimpleNamespace(_ddp_kwargs={}), world_size=2)
    with pytest.raises(UserError, match=r"use trainer\.strategy=ddp_find_unused_parameters_true"):
        GradualUnfreezing().setup(trainer, SimpleNamespace(net=small()), "fit")
    trainer.strategy._ddp_kwargs["find_unused_parameters"] = True
    GradualUnfreezing().setup(trainer, SimpleNamespace(net=small()), "fit")


def test_what_is_frozen_stays_to_the_bit_through_validation_and_a_resume(tmp_path: Path) -> None:
    """Running statistics too; and unfreezing goes on where it was."""
    held = [*TINY, "freeze=[conv1,bn1,layer1]", "regularizer=gradual_unfreezing", "optimizer.weight_decay=0.1"]
    short = trained(*held, "trainer.max_epochs=1", "run_dir=short")
    shutil.copytree(short.folder, tmp_path / "more")
    more = run(configuration([f"resume={tmp_path / 'more'}", "trainer.max_epochs=3"], []))
    straight = trained(*held, "trainer.max_epochs=3", "run_dir=straight")
    assert_same(*(checkpoints.read(checkpoints.find(r.folder, "last"))["optimizer_states"] for r in (more, straight)))
    before, after = last(short), last(more)
    assert_same(after, last(straight))
    still = {key.partition(".")[0] for key in before if torch.equal(before[key], after[key])}
    assert still == {"conv1", "bn1", "layer1"}
    assert after["bn1.num_batches_tracked"] == 0
    assert 0 < after["layer2.0.bn1.num_batches_tracked"] < after["layer3.0.bn1.num_batches_tracked"]


@pytest.mark.parametrize("every", [0, 1.5])
def test_gradual_unfreezing_every_so_many_epochs(every: float) -> None:
    with pytest.raises(UserError, match="must be a whole number of at least 1"):
        GradualUnfreezing(every)  # type: ignore[arg-type]


# ---- the whole of it -------------------------------------------------------------------------------------------------


def test_a_net_is_taught_other_classes() -> None:
    """Offline, by the words of the command line: four shapes first, then two others with a fresh head."""
    four, two = "[circle,ring,square,triangle]", "[cross,stripes]"
    shapes = [*TINY, "data=shapes", "trainer.max_epochs=1"]
    first = trained(*shapes, f"data.classes={four}", "data.dims.num_classes=4", "run_dir=first")
    tuning = [f"data.classes={two}", "data.dims.num_classes=2", "optimizer.stage_factor=2.6", "scheduler=cosine"]
    second = trained(*shapes, *tuning, f"weights={first.folder}", "run_dir=second")
    report = json.loads((second.folder / "weights.json").read_text())
    assert report["replaced"] == ["fc.bias", "fc.weight"]
    assert (report["missing"], report["unexpected"]) == ([], [])
    told = (second.folder / "train.log").read_text()
    assert "replaced: fc" in told
    assert "rates        0.02 from fc, 0.00769 from layer3.0.conv1, 0.00296 from" in told
    assert "these weights know" not in told
    checkpoint = checkpoints.read(checkpoints.find(second.folder))
    assert checkpoint["dl_zoo"]["classes"] == ["cross", "stripes"]
    rates = [group["initial_lr"] for group in checkpoint["optimizer_states"][0]["param_groups"]]
    assert rates == pytest.approx([0.02 / 2.6**i for i in range(5)])


def test_weights_of_other_pictures_are_told(finished: Result) -> None:
    shown = {"mean": [0.3059], "std": [0.3763]}  # LeNet-5 on digits
    same = SimpleNamespace(dims={"image_size": 32}, normalisation=shown)
    assert [*other_pictures(str(finished.folder), same)] == []
    other = SimpleNamespace(dims={"image_size": 224}, normalisation={"mean": [0.5], "std": [0.5]})
    size, normalisation = other_pictures(str(finished.folder), other)
    assert size.endswith("know pictures of 32 pixels, and yours have 224; data.image_size=32 gives such")
    assert normalisation.endswith("another normalisation; data.mean=[0.3059] data.std=[0.3763] gives it")
    assert [*other_pictures("anybodys.pth", other)] == []


CIFAR = Path(os.environ.get("DL_ZOO_DATA", "data")).absolute() / "cifar10-jpg.tar.xz"
STRANGER = CIFAR.parents[1] / "checkpoints" / "resnet32-d509ac18.th"


@pytest.mark.slow
@pytest.mark.skipif(not (CIFAR.is_file() and STRANGER.is_file()), reason="the archive or the checkpoint is not there")
def test_a_public_resnet32_scores_what_is_known_of_it() -> None:
    """82.56 % of the JPEG test set, with the normalisation that it was trained with (ImageNet's)."""
    imagenet = ["data.mean=[0.485,0.456,0.406]", "data.std=[0.229,0.224,0.225]"]
    words = ["model=resnet32", "data=cifar10_jpg", "data.batch_size=500", "trainer=cpu", "trainer.max_epochs=0"]
    result = run(compose([*words, *imagenet, f"weights={STRANGER}", "pictures=false", "logger=none"]))
    assert result.report is not None
    assert result.report.percent == 100
    assert 100 * result.metrics["test/acc"] == pytest.approx(82.56, abs=0.05)


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.is_file(), reason="the archive is not there")
def test_five_classes_of_cifar_help_with_the_other_five() -> None:
    """A narrow ResNet-20, 20 pictures a class to tune with: better than the same tuning from scratch."""
    narrow = ["model=resnet20", "model.width=8", "optimizer=adamw", "scheduler=cosine", "data.batch_size=64"]
    first = trained(*narrow, "data=cifar10_jpg_first5", "data.train_items=10000", "trainer.max_epochs=3", "run_dir=a")
    few = [
        *narrow,
        "data=cifar10_jpg_last5",
        "data.labels_per_class=20",
        "trainer.max_epochs=15",
        "optimizer.lr=3.0e-3",
    ]
    scratch = trained(*few, "run_dir=b")
    tuned = trained(*few, f"weights={first.folder}", "weights_map={fc: null}", "freeze=[conv1,bn1]", "run_dir=c")
    assert tuned.metrics["test/acc"] > scratch.metrics["test/acc"] + 0.03
