"""Generated regressions whose loss is a known landscape: that it is the stated one, and what walks on it."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Said, one_line, trained
from torch import Tensor

from dl_zoo import checkpoints, load_run, refusals
from dl_zoo.data.double_well import DoubleWell
from dl_zoo.data.quadratic_bowl import QuadraticBowl
from dl_zoo.data.regression_with_outliers import RegressionWithOutliers
from dl_zoo.errors import UserError
from dl_zoo.from_scratch.optimizers import Adam
from dl_zoo.models.tied_linear import TiedLinear
from dl_zoo.probes.step_lengths import step_lengths
from dl_zoo.probes.wells import wells
from dl_zoo.tasks.regression import Regression

SMALL = {"train_items": 60, "eval_items": 40}


def ready(kind: type[Any], **settings: Any) -> Any:
    data = kind({}, **{**SMALL, **settings})
    data.setup()
    return data


def exact(split: tuple[Tensor, Tensor]) -> list[np.ndarray]:
    return [tensor.double().numpy() for tensor in split]


# ---- the bowl -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotated", [True, False])
@pytest.mark.parametrize(("features", "steepest", "flattest"), [(1, 3.0, 0.5), (6, 4.0, 0.04), (20, 1.0, 1.0)])
def test_every_split_has_exactly_the_stated_curvatures(
    features: int, steepest: float, flattest: float, rotated: bool
) -> None:
    data = ready(QuadraticBowl, features=features, steepest=steepest, flattest=flattest, rotated=rotated, noise=0.3)
    wanted = np.geomspace(steepest, flattest, features)
    for split in data.splits.values():
        inputs, targets = exact(split)
        hessian = 2 * inputs.T @ inputs / len(inputs)
        assert np.linalg.eigvalsh(hessian)[::-1] == pytest.approx(wanted, rel=1e-5)
        assert inputs.mean(0) == pytest.approx(0, abs=1e-6)
        assert inputs.T @ (targets[:, 0] - inputs @ data.minimum) == pytest.approx(0, abs=1e-4)  # no slope there
        if features == 6:
            assert (np.abs(hessian - np.diag(np.diag(hessian))).max() > 0.1) == rotated
    assert data.dims == {"features": features, "num_classes": 1, "num_targets": 1}
    assert np.abs(data.axes.T @ data.minimum) == pytest.approx(1)


def test_the_loss_is_the_formula_wherever_one_stands() -> None:
    data, random = ready(QuadraticBowl, features=5, steepest=2.0, flattest=0.1, noise=0.7), np.random.RandomState(0)
    for _ in range(20):
        w, bias = 3 * random.standard_normal(5), random.standard_normal()
        away = data.axes.T @ (w - data.minimum)  # along the axes of the bowl
        expected = (data.curvatures * away**2).sum() / 2 + bias**2 + 0.7**2
        for split in data.splits.values():
            inputs, targets = exact(split)
            assert np.mean((inputs @ w + bias - targets[:, 0]) ** 2) == pytest.approx(expected, rel=1e-5)


def test_gradient_descent_of_the_trainer_shrinks_each_axis_by_its_own_factor() -> None:
    """L(w_n) = sum_i h_i / 2 (1 - eta h_i)^(2 n) a_i^2, with a the distances at the start."""
    words = [
        "experiment=quadratic_bowl",
        "model=mlp",
        "data.train_items=100",
        "data.eval_items=50",
        "data.batch_size=100",
        "data.repeats=4",
    ]
    words += ["data.features=4", "data.flattest=0.1", "optimizer.lr=1.5", "trainer.max_epochs=2"]
    result = trained(*words)
    task = load_run(result.folder).task
    data = QuadraticBowl({}, features=4, flattest=0.1, train_items=100, eval_items=50)
    start = trained(*words, "trainer.max_epochs=0").folder
    first = load_run(start).net.head
    away = data.axes.T @ (first.weight.detach().double().numpy()[0] - data.minimum)
    expected = (data.curvatures / 2 * (1 - 1.5 * data.curvatures) ** 16 * away**2).sum()
    assert result.metrics["val/loss"] == pytest.approx(expected, rel=1e-4)
    assert first.bias.item() == task.net.head.bias.item() == 0
    assert checkpoints.read(result.folder / "checkpoints" / "last.ckpt")["global_step"] == 8


def test_a_bowl_is_the_same_for_every_seed_and_its_splits_differ() -> None:
    one, other = ready(QuadraticBowl, seed=1), ready(QuadraticBowl, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.splits["train"], other.splits["train"], strict=True))
    assert not torch.equal(one.splits["val"][0], one.splits["test"][0])
    several = ready(QuadraticBowl, repeats=3, batch_size=60)
    first, *others = [batch[0] for batch in several.train_dataloader()]
    assert len(others) == 2
    assert all(torch.equal(first, each) for each in others)  # whole copies
    mixed = ready(QuadraticBowl, repeats=3, batch_size=45)
    assert not torch.equal(next(iter(mixed.train_dataloader()))[0], first[:45])
    pretended = QuadraticBowl({}, **SMALL)
    pretended.pretend(4)
    assert pretended.dims == one.dims
    assert [tensor.shape for tensor in pretended.splits["val"]] == [(4, 20), (4, 1)]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"flattest": 2}, r"data\.flattest=2, data\.steepest=1\.0: must be above 0, and in this order"),
        ({"flattest": 0}, r"data\.flattest=0, data\.steepest=1\.0: must be above 0, and in this order"),
        ({"noise": -1}, r"data\.noise=-1: must be at least 0"),
        ({"features": 0}, r"data\.features=0: must be at least 1"),
        ({"train_items": 21}, r"data\.train_items=21: must be at least 22, two more than data\.features=20"),
        ({"eval_items": 2}, r"data\.eval_items=2: must be at least 22, two more than data\.features=20"),
    ],
)
def test_wrong_bowls_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        QuadraticBowl({}, **{**SMALL, **settings})


def test_data_of_numbers_are_refused_by_tasks_of_classes_and_not_by_regression(cli: Callable[..., Said]) -> None:
    words = ["model=mlp", "model.depth=0", "data=quadratic_bowl", "trainer=cpu", "logger=none"]
    said = one_line(cli("train", *words))
    assert "needs a class for each item, and data=quadratic_bowl has numbers for each item; task=regression" in said
    assert cli("check", *words, "task=regression", "data.batch_size=4").code == 0


# ---- two wells ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tilt", "noise"), [(0.3, 0.0), (0.05, 0.5), (0.45, 0.0)])
def test_the_loss_of_every_copy_is_the_double_well(tilt: float, noise: float) -> None:
    data = ready(DoubleWell, copies=3, tilt=tilt, noise=noise)
    assert data.dims == {"copies": 3, "features": 6, "num_classes": 3, "num_targets": 3}
    net = TiedLinear(copies=3).double()
    for w in [-1.7, -1.0, 0.0, 0.3, 1.0, 2.0]:
        net.weight.data.fill_(w)
        expected = (w**2 - 1) ** 2 + tilt * (w - 1) ** 2 + noise**2
        for inputs, targets in data.splits.values():
            each = (net(inputs.double()) - targets).square().mean(0)  # (copies,)
            assert each.tolist() == pytest.approx([expected] * 3, rel=1e-5, abs=1e-9)
    shallow, deeper = data.wells
    assert shallow < data.barrier < 0 < deeper
    for place, bends_up in ((shallow, True), (data.barrier, False), (deeper, True)):
        w = torch.tensor(place, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad((w**2 - 1) ** 2 + tilt * (w - 1) ** 2, w, create_graph=True)
        (bend,) = torch.autograd.grad(slope, w)
        assert slope.item() == pytest.approx(0, abs=1e-6)
        assert (bend.item() > 0) == bends_up


def test_single_items_shake_the_shallow_well_and_not_the_deeper() -> None:
    data, spreads = ready(DoubleWell, copies=2), []
    inputs, targets = data.splits["train"]
    for w in data.wells:
        slope = 2 * (w**2 * inputs[..., 0] + w * inputs[..., 1] - targets) * (2 * w * inputs[..., 0] + inputs[..., 1])
        assert slope.mean(0).abs().max() < 1e-5
        spreads.append(slope.std(0).min().item())
    assert spreads == [pytest.approx(spreads[0]), pytest.approx(0, abs=1e-6)]
    assert spreads[0] > 1


def test_all_items_stay_in_the_shallow_well_and_a_single_one_leaves_it() -> None:
    words = [
        "experiment=double_well",
        "model=tied_linear",
        "data.copies=40",
        "optimizer.lr=1",
        "trainer.max_epochs=6",
    ]
    alone = trained(*words, "data.batch_size=1").metrics
    together = trained(*words, "data.batch_size=64", "data.repeats=64").metrics
    assert alone["step"] == together["step"] == 384
    assert alone["probe/wells/weights"] == 40
    assert alone["probe/wells/deeper"] > 0.1
    assert together["probe/wells/deeper"] == 0
    low = DoubleWell({}).wells[0]
    assert together["val/loss"] == pytest.approx((low**2 - 1) ** 2 + 0.35 * (low - 1) ** 2, rel=1e-4)


@pytest.mark.parametrize(
    "settings", [{"tilt": 0}, {"tilt": 0.5}, {"noise": -1}, {"copies": 0}, {"train_items": 3}, {"eval_items": 3}]
)
def test_wrong_wells_are_refused(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(UserError, match=rf"data\.{name}={value}: must be"):
        DoubleWell({}, **settings)


def test_wells_are_asked_of_weights_that_walk_there(cli: Callable[..., Said]) -> None:
    with pytest.raises(UserError, match="these data have no wells; data=double_well has"):
        wells(SimpleNamespace(net=TiedLinear(3)), ready(QuadraticBowl))
    for net in (TiedLinear(2), torch.nn.Linear(2, 3), torch.nn.Identity()):
        with pytest.raises(UserError, match="it looks at 3 weights side by side, and this net has none"):
            wells(SimpleNamespace(net=net), ready(DoubleWell, copies=3))
    said = one_line(cli("train", "model=tied_linear", "data=quadratic_bowl"))
    assert (
        said == "dl-zoo: model=tied_linear needs copies, which data=quadratic_bowl does not have; data=double_well has"
    )


# ---- steps on a gradient that never changes -----------------------------------------------------------------------


def lengths(make: Callable[..., Any], **settings: Any) -> dict[str, float]:
    task = Regression(net=torch.nn.Linear(1, 1), optimizer=make)
    found = step_lengths(task, None, **settings)
    return {key.removeprefix("step_lengths/"): value for key, value in found.items()}


def test_steps_are_as_long_as_the_rules_say() -> None:
    torch.manual_seed(0)
    sgd = lengths(lambda p: torch.optim.SGD(p, lr=0.5))
    assert [sgd[f"first/{place}"] for place in (1, 2, 3)] == pytest.approx([1e-3, -1.0, 1e3])
    assert sgd["shrunk/2"] == pytest.approx(1)
    heavy = lengths(lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9))
    assert heavy["last/2"] == pytest.approx(-(1 - 0.9**100) / (1 - 0.9))
    adagrad = lengths(lambda p: torch.optim.Adagrad(p, lr=0.01), steps=400)
    assert adagrad["last/1"] == pytest.approx(1 / 20, rel=1e-5)
    rmsprop = lengths(lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.9), steps=400)
    assert rmsprop["first/3"] == pytest.approx(1 / math.sqrt(1 - 0.9))
    assert rmsprop["last/3"] == pytest.approx(1)
    adam = lengths(lambda p: torch.optim.Adam(p, lr=1e-3))
    assert adam["first/1"] == pytest.approx(1e-3 / (1e-3 + 1e-8), rel=1e-9)
    assert (adam["first/2"], adam["early/2"]) == pytest.approx((-1, 1))
    bare = lengths(lambda p: Adam(p, lr=1e-3, bias_correction=False), gradients=[7.0])
    expected = [(1 - 0.9**t) / math.sqrt(1 - 0.999**t) for t in range(1, 11)]
    assert bare["early/1"] == pytest.approx(max(expected), rel=1e-6)
    assert bare["first/1"] == pytest.approx(expected[0], rel=1e-6)


@pytest.mark.parametrize(
    ("make", "settings", "line"),
    [
        (torch.optim.Adam, {"gradients": [1.0, 0.0]}, r"gradients=\[1\.0, 0\.0\]: name one at least, none of them 0"),
        (torch.optim.Adam, {"gradients": []}, r"gradients=\[\]: name one at least"),
        (torch.optim.Adam, {"steps": 5}, "early=10, steps=5: must be at least 1, and in this order"),
        (torch.optim.LBFGS, {}, "asks for the loss at many places"),
        (SimpleNamespace(of=None), {}, "leave out lr_factors"),
    ],
)
def test_steps_that_cannot_be_asked_for(make: Any, settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        lengths(make, **settings)


def test_a_run_asks_its_own_optimizer() -> None:
    words = [
        "experiment=quadratic_bowl",
        "model=mlp",
        "optimizer=rmsprop",
        "optimizer.alpha=0.75",
        "probe=[step_lengths]",
    ]
    metrics = trained(
        *words, "trainer.max_epochs=0", "probe.step_lengths.gradients=[-2]", "optimizer.alpha=0.75"
    ).metrics
    assert metrics["probe/step_lengths/first/1"] == pytest.approx(-2, rel=1e-6)  # 1 / sqrt(1 - 0.75)


# ---- a plane and outliers -----------------------------------------------------------------------------------------


def test_a_tenth_of_the_training_targets_is_far_above_the_plane() -> None:
    data = ready(RegressionWithOutliers, features=3, noise=0.5, offset=10.0, train_items=400)
    away = {}
    for name, (inputs, targets) in data.splits.items():
        away[name] = targets[:, 0] - inputs @ torch.tensor(data.weight, dtype=torch.float32) - data.intercept
    assert (away["train"] > 5).sum() == 40
    usual = away["train"][away["train"] < 5]
    assert usual.std().item() == pytest.approx(0.5, rel=0.15)
    assert usual.mean().abs() < 4 * 0.5 / 360**0.5
    assert away["train"][away["train"] > 5].mean().item() == pytest.approx(10, abs=0.4)
    assert max(away["val"].abs().max(), away["test"].abs().max()) < 1e-5  # on the plane itself
    assert data.dims == {"features": 3, "num_classes": 1, "num_targets": 1}
    other = ready(RegressionWithOutliers, features=3, train_items=400, draw=1)
    assert data.intercept != other.intercept
    assert not torch.equal(data.splits["test"][0], other.splits["test"][0])
    assert not torch.equal(data.splits["val"][0], data.splits["test"][0])


@pytest.mark.parametrize("settings", [{"noise": -1}, {"outliers": 1.0}, {"outliers": -0.1}, {"draw": -1}])
def test_wrong_outliers_are_refused(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(UserError, match=rf"data\.{name}={value}: must be"):
        RegressionWithOutliers({}, **settings)


def test_hubers_loss_is_the_formula_and_squared_error_stays_a_measure() -> None:
    torch.manual_seed(0)
    errors = torch.tensor([[0.5], [-2.0], [2.5], [-30.0]])
    task = Regression(net=torch.nn.Identity(), optimizer=torch.optim.Adam, loss="huber", delta=2.0)
    found = task.measure((errors + 1, torch.ones(4, 1)))
    each = [0.5**2 / 2, 2.0**2 / 2, 2 * (2.5 - 1), 2 * (30 - 1)]
    assert found.loss.item() == pytest.approx(np.mean(each))
    assert (found.sums["loss"].item(), found.sums["mse"].item()) == pytest.approx((sum(each), 0.25 + 4 + 6.25 + 900))
    derived = task.derive({"loss": 1.0, "mse": 3.0, "sum": 0.0, "squares": 4.0})
    assert derived == {"loss": 1.0, "mse": 3.0, "naive": 4.0, "r2": 0.25}
    plain = Regression(net=torch.nn.Identity(), optimizer=torch.optim.Adam).measure((errors + 1, torch.ones(4, 1)))
    assert plain.sums.keys() == {"loss", "mae", "sum", "squares"}  # a loss that is the squared error is told once


def test_hubers_line_is_hardly_lifted() -> None:
    """A least-squares line is lifted by about a tenth of 10, Huber's by about a ninth of 1."""
    words = ["experiment=outliers_line", "model=mlp", "data.batch_size=200", "trainer.max_epochs=1"]
    squared, huber = trained(*words), trained(*words, "task.loss=huber")
    data = ready(RegressionWithOutliers)
    lifted = [load_run(result.folder).net.head.bias.item() - data.intercept for result in (squared, huber)]
    assert lifted == pytest.approx([1.0, 0.11], abs=0.1)
    assert huber.metrics["test/mse"] < squared.metrics["test/loss"] / 10


def test_a_loss_that_the_task_does_not_have_is_told_before_anything_is_built(cli: Callable[..., Said]) -> None:
    words = ["model=mlp", "data=regression_with_outliers", "task=regression", "trainer=cpu", "logger=none"]
    said = one_line(cli("train", *words, "task.loss=triplet"))
    assert said == "dl-zoo: task.loss=triplet: must be one of mse, huber"
    assert one_line(cli("train", *words, "task.delta=0")) == "dl-zoo: task.delta=0: must be above 0"
    assert refusals.refusal(("model=gru", "task.loss=huber")) is None
    assert refusals.refusal(("model=gru", "task.loss=bce")) == "task.loss=bce: must be one of mse, huber"
    with pytest.raises(UserError, match=r"task\.loss=bce: must be one of mse, huber"):
        Regression(net=torch.nn.Identity(), optimizer=torch.optim.Adam, loss="bce")


# ---- a saddle -----------------------------------------------------------------------------------------------------


def test_gradient_descent_stays_on_the_saddle_to_the_bit_and_any_noise_grows() -> None:
    words = ["experiment=linear_saddle", "model=mlp", "data.batch_size=100", "trainer.max_epochs=16"]
    still = trained(*words)
    assert all(not parameter.any() for parameter in load_run(still.folder).net.parameters())
    assert still.metrics["val/loss"] == pytest.approx(1)
    noise = ["regularizer=[gradient_noise]", "regularizer.gradient_noise.gamma=0"]
    left = trained(*words, *noise, "regularizer.gradient_noise.eta=1e-8")
    assert left.metrics["val/loss"] < 0.1
    net = load_run(left.folder).net
    assert (net.head.weight * net.layers[0].weight).abs().item() == pytest.approx(1, abs=0.2)
