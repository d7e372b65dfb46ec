"""Probes of gradients, activations and symmetry, on nets where the answer is known."""

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo import create_model
from dl_zoo.data.digits import Digits
from dl_zoo.errors import UserError
from dl_zoo.initializers import constant, he, orthogonal, zeros
from dl_zoo.probes import first_items
from dl_zoo.probes.dead_units import dead_units
from dl_zoo.probes.gradient_flow import TINY, gradient_flow
from dl_zoo.probes.symmetry import symmetry, unit_spread
from dl_zoo.tasks.classification import Classification
from tests.conftest import trained

DIMS = {"channels": 1, "image_size": 8, "features": 64, "num_classes": 10}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def data() -> Digits:
    result = Digits(DIMS, batch_size=50)
    result.setup()
    return result


def mlp(**arguments: Any) -> nn.Module:
    return create_model("mlp", in_features=64, **arguments)


def holding(net: nn.Module) -> Classification:
    return Classification(net, torch.optim.SGD, num_classes=10)


class Chain(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


# ---- gradient_flow


def test_an_orthogonal_linear_net_scales_every_gradient_alike(data: Digits) -> None:
    net = mlp(activation="linear", width=20, depth=40)
    orthogonal(net, gain=1.2)
    found = gradient_flow(holding(net), data)
    assert found["gradient_slope"] == pytest.approx(math.log10(1.2), abs=1e-6)
    assert found["gradient_ratio"] == pytest.approx(39 * math.log10(1.2), abs=1e-5)
    assert found["gradient/39"] == pytest.approx(math.log10(1.2), abs=1e-6)
    assert found["gradient/40"] == found["activation/01"] == 0
    assert [key for key in found if key.startswith("gradient/")] == [f"gradient/{n:02d}" for n in range(1, 41)]


def test_a_tied_layer_counts_once_a_call(data: Digits) -> None:
    net = mlp(activation="linear", width=20, depth=50, tied=True)
    assert sum(1 for _ in net.parameters()) == 6
    orthogonal(net, gain=1.2)
    assert gradient_flow(holding(net), data)["gradient_ratio"] == pytest.approx(49 * math.log10(1.2), abs=1e-5)


def test_a_tied_net_is_the_recurrent_one() -> None:
    net: Any = mlp(activation="tanh", width=7, depth=5, tied=True)
    inputs = torch.randn(3, 64)
    state = torch.tanh(inputs @ net.layers[0].weight.T + net.layers[0].bias)
    for _ in range(4):
        state = torch.tanh(state @ net.layers[1].weight.T + net.layers[1].bias)
    torch.testing.assert_close(net(inputs), state @ net.head.weight.T + net.head.bias)


def test_three_layers_by_hand(data: Digits) -> None:
    net: Any = mlp(activation="tanh", width=12, depth=3).double()
    inputs, targets = first_items(data, 70, torch.device("cpu"))
    sums, hidden = [], inputs.double().flatten(1)
    for layer in net.layers:
        sums.append(hidden @ layer.weight.T + layer.bias)
        hidden = sums[-1].tanh()
    gradients = torch.autograd.grad(F.cross_entropy(hidden @ net.head.weight.T + net.head.bias, targets), sums)
    g = [float(gradient.norm().detach().log10()) for gradient in gradients]
    s = [float((z - z.mean()).detach().square().mean().sqrt().log10()) for z in sums]
    expected = {
        "gradient/01": g[0] - g[2],
        "gradient/02": g[1] - g[2],
        "gradient/03": 0,
        "activation/01": 0,
        "activation/02": s[1] - s[0],
        "activation/03": s[2] - s[0],
        "gradient_ratio": g[0] - g[2],
        "activation_ratio": s[2] - s[0],
        "gradient_slope": (g[0] - g[2]) / 2,  # of three points the middle one has no say
    }
    assert gradient_flow(holding(net), data, items=70) == pytest.approx(expected, abs=1e-9)


def test_what_is_below_float32_is_measured(data: Digits) -> None:
    net = mlp(activation="sigmoid", width=10, depth=90)
    ratio = gradient_flow(holding(net), data, items=50)["gradient_ratio"]
    assert math.log10(TINY) < ratio < -50


def test_a_gradient_of_zero_has_a_finite_logarithm(data: Digits) -> None:
    net = mlp(depth=3, width=5)
    zeros(net)
    assert all(math.isfinite(value) for value in gradient_flow(holding(net), data).values())


def test_in_place_rectifiers_and_batch_norm(data: Digits) -> None:
    """The measured sums are those before the rectifier, and norms divide by the batch's deviation."""
    chains = []
    for inplace in (False, True):
        torch.manual_seed(1)
        layers = [nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(inplace), nn.Linear(16, 16), nn.ReLU(inplace)]
        chains.append(gradient_flow(holding(Chain(*layers, nn.Linear(16, 10))), data, items=100))
    assert chains[0] == chains[1]
    assert set(chains[0]) >= {"gradient/03"}
    assert "gradient/04" not in chains[0]


def test_the_net_is_left_as_it_was(data: Digits) -> None:
    net = Chain(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
    task = holding(net).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for probe in (gradient_flow, symmetry):
        with torch.no_grad():  # as in evaluation
            probe(task, data)
    assert task.net is net
    assert not task.training
    assert not net.training
    assert all(not module._forward_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("probe", [gradient_flow, symmetry])
def test_what_cannot_be_measured_is_told(probe: Any, data: Digits) -> None:
    task = holding(mlp(depth=0))
    with pytest.raises(UserError, match="hidden"):
        probe(task, data)
    with pytest.raises(UserError, match="at least 1"):
        probe(task, data, items=0)
    assert isinstance(task.net, nn.Module)


# ---- symmetry


def test_zeros_pass_no_error_back(data: Digits) -> None:
    net = mlp(depth=3, width=9)
    zeros(net)
    assert symmetry(holding(net), data) == {"hidden_gradient": 0.0, "unit_spread": 0.0}


def test_constants_are_copies_and_learn(data: Digits) -> None:
    net = mlp(depth=3, width=9)
    constant(net, 0.1)
    found = symmetry(holding(net), data)
    assert found["hidden_gradient"] > 0
    assert found["unit_spread"] == 0


def test_one_unit_that_differs(data: Digits) -> None:
    net: Any = mlp(depth=2, width=4)
    constant(net, 0.5)
    with torch.no_grad():
        net.layers[1].weight[2, 1] = 0.4
    assert symmetry(holding(net), data)["unit_spread"] == pytest.approx(0.2)


def test_hidden_gradient_is_that_of_all_layers_but_the_last(data: Digits) -> None:
    net: Any = mlp(depth=1, width=6)
    he(net)
    found = symmetry(holding(net), data, items=40)
    inputs, targets = first_items(data, 40, torch.device("cpu"))
    F.cross_entropy(net(inputs), targets).backward()
    expected = max(float(parameter.grad.abs().max()) for parameter in net.layers[0].parameters())
    assert found["hidden_gradient"] == pytest.approx(expected, rel=1e-5)


def test_spread_compares_units_not_inputs() -> None:
    assert unit_spread(torch.tensor([[1.0, 9.0, 4.0], [1.0, 9.0, 4.0]])) == 0
    assert unit_spread(torch.tensor([[1.0, 1.0], [2.0, 2.0]])) == 0.5
    assert unit_spread(torch.zeros(2, 2)) == 0


# ---- what they read, and in a run


def test_first_items_are_the_training_set_in_order(data: Digits) -> None:
    inputs, targets = first_items(data, 120, torch.device("cpu"))
    assert inputs.shape == (120, 1, 8, 8)
    assert torch.equal(targets, data.splits["train"][1][:120])
    few = SimpleNamespace(loader=partial(lambda split: [(torch.ones(3, 2), torch.ones(3))]))
    assert len(first_items(few, 8, torch.device("cpu"))[0]) == 3


def test_a_run_reports_both() -> None:
    metrics = trained(
        "experiment=deep_mlp",
        "model=mlp",
        "data=digits",
        "model.depth=3",
        "trainer.max_epochs=0",
        "probe=[gradient_flow,symmetry]",
    ).metrics
    assert {"probe/gradient_slope", "probe/gradient/03", "probe/activation/03", "probe/unit_spread"} <= set(metrics)
    assert metrics["probe/hidden_gradient"] > 0


# ---- dead_units


def test_units_are_dead_where_no_item_reaches_them(data: Digits) -> None:
    net: Any = mlp(width=10, depth=2)
    with torch.no_grad():
        net.layers[0].bias[:4] = -1e3
        net.layers[1].bias[:1] = -1e3
    found = dead_units(holding(net), data)
    assert found == pytest.approx({"dead_units/01": 0.4, "dead_units/02": 0.1, "dead_units/share": 0.25})


def test_one_item_keeps_a_unit_alive(data: Digits) -> None:
    """The first pixel that differs among 600 items, turned so that it lets the unit speak for a single one of them."""
    net: Any = mlp(width=1, depth=1)
    inputs, _ = first_items(data, 600, torch.device("cpu"))
    sums = inputs.flatten(1) @ torch.linspace(1, 2, 64)
    with torch.no_grad():
        net.layers[0].weight[:] = torch.linspace(1, 2, 64)
        net.layers[0].bias[:] = -sums.sort().values[-2:].mean()
    last = int(sums.argmax())
    assert dead_units(holding(net), data, items=600)["dead_units/share"] == 0
    assert dead_units(holding(net), data, items=last)["dead_units/share"] == 1


def test_a_leak_keeps_every_unit_alive_and_an_elu_underflows(data: Digits) -> None:
    for activation, bias, share in (("leaky_relu", -1e3, 0), ("elu", -20, 0), ("elu", -1e3, 1), ("linear", -1e3, 0)):
        net: Any = mlp(width=10, depth=1, activation=activation)
        torch.nn.init.constant_(net.layers[0].bias, bias)
        assert dead_units(holding(net), data)["dead_units/share"] == share, (activation, bias)


def test_a_convolution_is_dead_only_where_it_is_so_everywhere(data: Digits) -> None:
    net: Any = create_model("conv4_relu", num_classes=10)
    with torch.no_grad():
        net.conv1.bias[:8] = -1e3
    pictures = SimpleNamespace(loader=lambda _: [(torch.randn(20, 3, 32, 32), torch.zeros(20, dtype=torch.long))])
    found = dead_units(holding(net), pictures)
    assert found["dead_units/01"] == 8 / net.conv1.out_channels


def test_dead_units_names_what_it_needs(data: Digits) -> None:
    with pytest.raises(UserError, match="nonlinearity"):
        dead_units(holding(Chain(nn.Linear(64, 10))), data)
    with pytest.raises(UserError, match="no hidden layer"):
        dead_units(holding(mlp(depth=0)), data)
