"""Drawn weights against the variances of the papers, over every kind of layer that computes weighted sums."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from torch import Tensor, nn

from dl_zoo import create_model, initializers
from dl_zoo.initializers import default, he, xavier

CONFIGS = Path(__file__).parents[1] / "configs" / "initializer"
LAYERS: list[tuple[nn.Module, int, int]] = [  # n_in, n_out
    (nn.Linear(300, 100), 300, 100),
    (nn.Linear(300, 100, bias=False), 300, 100),
    (nn.Conv1d(64, 128, 3), 64 * 3, 128 * 3),
    (nn.Conv2d(32, 64, 5, groups=2, stride=2), 16 * 25, 32 * 25),
    (nn.Conv3d(8, 16, 3), 8 * 27, 16 * 27),
    (nn.ConvTranspose2d(32, 64, 4, groups=2), 16 * 16, 32 * 16),
    (nn.Bilinear(20, 30, 50), 600, 50 * 30),
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def state(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


@pytest.mark.parametrize(("layer", "n_in", "n_out"), LAYERS, ids=lambda value: type(value).__name__)
def test_xavier_variance_and_bound(layer: nn.Linear, n_in: int, n_out: int) -> None:
    xavier(layer)
    bound = (6 / (n_in + n_out)) ** 0.5
    assert layer.weight.var().item() == pytest.approx(2 / (n_in + n_out), rel=0.05)
    assert 0.99 * bound < layer.weight.abs().max().item() <= bound
    xavier(layer, gain=3.0)
    assert layer.weight.var().item() == pytest.approx(9 * 2 / (n_in + n_out), rel=0.05)


@pytest.mark.parametrize(("layer", "n_in", "n_out"), LAYERS, ids=lambda value: type(value).__name__)
def test_he_variance(layer: nn.Linear, n_in: int, n_out: int) -> None:
    he(layer)
    assert layer.weight.var().item() == pytest.approx(2 / n_in, rel=0.05)
    assert layer.weight.abs().max().item() > 3 * (2 / n_in) ** 0.5  # normal, not uniform
    he(layer, nonlinearity="linear")
    assert layer.weight.var().item() == pytest.approx(1 / n_in, rel=0.05)


def test_links_of_unequal_units() -> None:
    """C3 of LeNet-5: maps of three, four and six inputs in one weight."""
    c3 = create_model("lenet5_1998").get_submodule("c3")
    he(c3)
    weight, fan_in = c3.get_parameter("weight").detach(), c3.get_buffer("fan_in")
    assert (weight * (fan_in / 2).sqrt()).var().item() == pytest.approx(1, rel=0.1)
    xavier(c3)
    assert weight.abs().amax((1, 2)).le((6 / (fan_in.flatten() + 250)).sqrt()).all()  # 10 links of 25 leave each map


@pytest.mark.parametrize("initializer", [xavier, he])
@pytest.mark.parametrize("name", ["mlp", "lenet5"])
def test_biases_are_zero_and_weights_are_new(initializer: Callable[[nn.Module], None], name: str) -> None:
    net = create_model(name)
    before = state(net)
    initializer(net)
    for key, value in net.state_dict().items():
        assert not torch.equal(value, before[key]), key
        assert value.any().item() is (not key.endswith("bias")), key


@pytest.mark.parametrize("initializer", [xavier, he])
def test_same_seed_same_weights(initializer: Callable[[nn.Module], None]) -> None:
    drawn = []
    for seed in (1, 1, 2):
        net = nn.Linear(20, 30)
        torch.manual_seed(seed)
        initializer(net)
        drawn.append(net.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("initializer", [xavier, he])
def test_other_layers_are_left_alone(initializer: Callable[[nn.Module], None]) -> None:
    net = nn.ModuleList([nn.Embedding(10, 20), nn.LayerNorm([4, 5]), nn.BatchNorm2d(3), nn.LSTM(4, 5), nn.PReLU()])
    before = state(net)
    initializer(net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_default_touches_nothing() -> None:
    net = create_model("lenet5")
    before, random_state = state(net), torch.get_rng_state()
    default(net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_signal_through_rectifiers() -> None:
    """What the variances are for: 20 layers of ReLU keep the size under He and lose sqrt(2) a layer under Xavier."""
    x = torch.randn(64, 256)
    net = nn.Sequential(*(nn.Sequential(nn.Linear(256, 256), nn.ReLU()) for _ in range(20)))
    he(net)
    kept = net(x).std().item()
    xavier(net)
    assert 0.3 < kept < 3
    assert net(x).std().item() / kept == pytest.approx(2**-10, rel=2)


@pytest.mark.parametrize("initializer", [xavier, he])
def test_on_meta(initializer: Callable[[nn.Module], None]) -> None:
    with torch.device("meta"):
        initializer(create_model("lenet5_1998"))


def test_unknown_nonlinearity() -> None:
    with pytest.raises(ValueError, match="rleu"):
        he(nn.Linear(2, 2), nonlinearity="rleu")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml(path: Path) -> None:
    written = yaml.safe_load(path.read_text())
    function = getattr(initializers, path.stem)
    numbers = {key: value for key, value in written.items() if not key.startswith("_")}
    defaults = {key: p.default for key, p in inspect.signature(function).parameters.items() if key != "net"}
    assert numbers == defaults
    bound = instantiate(written)
    assert (bound.func, bound.keywords) == (function, defaults)
    bound(nn.Linear(2, 2))
