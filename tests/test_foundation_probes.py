"""Probes of the foundations, on nets whose answers are known in closed form: one map, slopes, wrong and sure."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from conftest import Said, one_line
from torch import Tensor, nn

from dl_zoo import create_model
from dl_zoo.compose import compose
from dl_zoo.data.digits import Digits
from dl_zoo.errors import UserError
from dl_zoo.from_scratch import activations, losses
from dl_zoo.probes.backward_cost import backward_cost
from dl_zoo.probes.finite_differences import finite_differences
from dl_zoo.probes.gradient_variance import gradient_variance
from dl_zoo.probes.one_map import one_map
from dl_zoo.probes.slopes import slopes
from dl_zoo.probes.wrong_and_sure import wrong_and_sure
from dl_zoo.run import run
from dl_zoo.tasks.classification import Classification

DIMS = {"channels": 1, "image_size": 8, "features": 64, "num_classes": 10}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def data() -> Digits:
    result = Digits(DIMS, batch_size=50)
    result.setup()
    return result


def holding(net: nn.Module) -> Classification:
    return Classification(net, torch.optim.SGD, num_classes=10)


def mlp(**arguments: Any) -> nn.Module:
    return create_model("mlp", in_features=64, **arguments)


class Two(nn.Module):
    """What no probe here asks: a pair of answers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(x.flatten(1)), self.inner.bias


# ---- one_map


@pytest.mark.parametrize("depth", [0, 1, 7])
def test_layers_without_a_nonlinearity_are_one_map(depth: int, data: Digits) -> None:
    assert one_map(holding(mlp(activation="linear", width=20, depth=depth)), data)["one_map/difference"] < 1e-12


def test_convolutions_and_norms_in_evaluation_are_one_map_too(data: Digits) -> None:
    layers = [nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout()]
    assert one_map(holding(nn.Sequential(*layers)), data)["one_map/difference"] < 1e-12
    bent = nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.Flatten())
    assert one_map(holding(bent), data)["one_map/difference"] > 0.1


class Absolute(nn.Module):
    """f(x) = w |x_1|: its affine map by the basis is w x_1, which is wrong by 2 w |x_1| where x_1 < 0."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x.flatten(1)[:, :1].abs()


def test_the_difference_is_relative_to_what_depends_on_the_input(data: Digits) -> None:
    task = holding(Absolute())
    assert one_map(task, data)["one_map/difference"] == pytest.approx(2, abs=1e-12)
    assert task.net.w.dtype == torch.float32, "all is done on a copy"


# ---- slopes


CLOSED: dict[str, dict[str, float]] = {
    "sigmoid": {"largest": 0.25, "peak": 0, "far": math.exp(-10) / (1 + math.exp(-10)) ** 2},
    "tanh": {"largest": 1, "peak": 0, "far": 1 / math.cosh(10) ** 2, "far_below": 1 / math.cosh(10) ** 2},
    "relu": {"positive_least": 1, "positive_largest": 1, "negative_largest": 0, "far_below": 0},
    "leaky_relu": {"positive_least": 1, "positive_largest": 1, "negative_largest": 0.01, "far_below": 0.01},
    "elu": {
        "positive_least": 1,
        "positive_largest": 1,
        "negative_largest": math.exp(-0.01),
        "far_below": math.exp(-10),
    },
    "softsign": {"largest": 1, "peak": 0, "far": 1 / 121},
    "linear": {"largest": 1, "peak": 0, "far": 1, "far_below": 1},
}


@pytest.mark.parametrize("name", CLOSED)
def test_slopes_are_those_of_the_equations(name: str, data: Digits) -> None:
    found = slopes(holding(mlp(activation=name)), data)
    assert {key: found[f"slopes/{key}"] for key in CLOSED[name]} == pytest.approx(CLOSED[name], rel=1e-6, abs=1e-15)


def test_the_grid_is_the_one_asked_for(data: Digits) -> None:
    found = slopes(holding(mlp(activation="sigmoid")), data, bound=2, points=5)
    assert found["slopes/positive_largest"] == pytest.approx(math.exp(-1) / (1 + math.exp(-1)) ** 2)  # at 1
    assert found["slopes/far"] == pytest.approx(math.exp(-2) / (1 + math.exp(-2)) ** 2)


# ---- wrong_and_sure


LOSSES = {"cross_entropy": losses.binary_cross_entropy, "squared_error": losses.squared_error}
asked = partial(
    wrong_and_sure, losses=LOSSES, output=activations.sigmoid, slope=activations.sigmoid_derivative, most=200
)


class Bias(nn.Module):
    """Answers with one weight, whatever is asked: z moves by lr dL/dz a step."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), 2)


@pytest.mark.parametrize("logit", [-10.0, -2.0, -1.0])
def test_gradients_of_both_losses_are_the_closed_forms(logit: float, data: Digits) -> None:
    p = 1 / (1 + math.exp(-logit))
    for loss, gradient in {"cross_entropy": 1 - p, "squared_error": 2 * (1 - p) ** 2 * p}.items():
        found = asked(holding(Bias()), data, loss=loss, logit=logit)["wrong_and_sure/gradient"]
        assert found == pytest.approx(gradient, rel=1e-12)


def test_steps_are_counted_on_the_one_weight_by_hand(data: Digits) -> None:
    for loss, pull in {"cross_entropy": lambda p: 1 - p, "squared_error": lambda p: 2 * (1 - p) ** 2 * p}.items():
        z, steps = -3.0, 0
        while z <= 0:
            z, steps = z + 0.5 * pull(1 / (1 + math.exp(-z))), steps + 1
        task = holding(Bias())
        assert asked(task, data, loss=loss, logit=-3.0, lr=0.5)["wrong_and_sure/steps"] == steps > 7
        assert task.net.w.item() == 0, "a copy learns"
    assert asked(holding(Bias()), data, loss="squared_error")["wrong_and_sure/steps"] == 200, "as many as there may be"


# ---- in the one trainer


def test_the_yamls_hand_over_what_the_probes_ask_for() -> None:
    words = ["experiment=mlp_probe", "probe=[one_map,slopes,wrong_and_sure]", "model.activation=tanh", "trainer=cpu"]
    found = run(compose([*words, "logger=none", "probe.wrong_and_sure.most=50"]), quiet=True).metrics
    assert found["probe/slopes/far"] == pytest.approx(1 / math.cosh(10) ** 2, rel=1e-6)
    assert found["probe/one_map/difference"] > 0.01
    assert found["probe/wrong_and_sure/gradient"] == pytest.approx(1 - 1 / (1 + math.exp(10)))
    assert found["probe/wrong_and_sure/steps"] < 50


@pytest.mark.parametrize(
    ("ask", "net", "said"),
    [
        (one_map, Two(), "one tensor"),
        (partial(one_map, items=0), mlp(), "items=0"),
        (slopes, Two(), "has none by that name; model=mlp"),
        (partial(slopes, points=100), mlp(), "points=100"),
        (partial(asked, loss="cross_entropy"), Two(), "a row of scores"),
        (partial(asked, loss="hinge"), mlp(), "cross_entropy or squared_error"),
        (partial(asked, loss="cross_entropy", logit=1.0), mlp(), "logit=1.0"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(ask: Any, net: nn.Module, said: str, data: Digits) -> None:
    with pytest.raises(UserError, match=said) as raised:
        ask(holding(net), data)
    assert "\n" not in str(raised.value)


def test_the_command_line_says_which_net_has_what_is_asked_for(cli: Callable[..., Said]) -> None:
    words = ["model=softmax_regression", "data=digits", "probe=[slopes]", "trainer.max_epochs=0"]
    assert one_line(cli("train", *words)) == (
        "dl-zoo: slopes asks for the activation of a net, and this one has none by that name; model=mlp"
    )


# ---- what gradients cost and how they vary


class Items:
    """Numbers (N, 64) with classes, one split."""

    def __init__(self, items: int = 40):
        self.inputs, self.targets = torch.randn(items, 64), torch.randint(10, (items,))

    def loader(self, split: str) -> Any:
        yield from zip(self.inputs.split(16), self.targets.split(16), strict=True)


def test_a_batch_has_its_share_of_the_variance() -> None:
    found = gradient_variance(holding(mlp(width=8, depth=1)), Items(), sizes=(1, 8, 64), draws=400)
    assert found["gradient_variance_off"] < 0.2
    assert found["gradient_variance_apart"] < 2
    assert [*found][:3] == ["gradient_variance/0001", "gradient_variance/0008", "gradient_variance/0064"]


def test_one_item_again_and_again_tells_no_more_than_once() -> None:
    found = gradient_variance(holding(mlp(width=8, depth=1)), Items(), sizes=(8,), draws=400, repeated=True)
    assert found["gradient_variance/0008"] == pytest.approx(8, rel=0.2)


def test_the_way_back_costs_what_the_layers_say() -> None:
    """Multiply-adds an item: 64 * 8, 8 * 8, 8 * 10; the first layer passes nothing on."""
    found = backward_cost(holding(mlp(width=8, depth=2)), Items(), items=40, repeats=1)
    layers = [64 * 8, 8 * 8, 8 * 10]
    assert found["backward_cost/forward"] == 2 * sum(layers)
    assert found["backward_cost/flops"] == pytest.approx(2 - layers[0] / sum(layers))
    assert 0 < found["backward_cost/seconds"] < 100


def test_differences_take_two_passes_a_weight_and_agree() -> None:
    net = mlp(width=4, depth=1, activation="tanh")
    before = [p.clone() for p in net.parameters()]
    found = finite_differences(holding(net), Items())
    count = 64 * 4 + 4 + 4 * 10 + 10
    assert found["finite_differences/parameters"] == count
    assert found["finite_differences/passes"] == 2 * count
    assert found["finite_differences/apart"] < 1e-8
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    coarse = finite_differences(holding(net), Items(), one_sided=True, step=1e-3)
    assert 1e-6 < coarse["finite_differences/apart"] < 1e-1


@pytest.mark.parametrize(
    ("probe", "how", "words"),
    [
        (gradient_variance, {"sizes": ()}, "sizes"),
        (gradient_variance, {"draws": 1}, "draws"),
        (backward_cost, {"repeats": 0}, "repeats"),
        (finite_differences, {"most": 10}, "as many as this net has weights, 310"),
    ],
)
def test_what_the_probes_of_gradients_ask_for(probe: Any, how: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        probe(holding(mlp(width=4, depth=1)), Items(), **how)
