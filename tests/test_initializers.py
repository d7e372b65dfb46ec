"""Drawn weights against the variances of the papers, over every kind of layer that computes weighted sums."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from hydra.utils import instantiate
from torch import Tensor, nn

from dl_zoo import create_model, initializers
from dl_zoo.initializers import constant, default, he, lecun, normal, orthogonal, xavier, zeros

CONFIGS = Path(__file__).parents[1] / "configs" / "initializer"
DRAWN = [normal, lecun, xavier, he, orthogonal]
ALL = [zeros, constant, *DRAWN]
LAYERS: list[tuple[nn.Module, int, int]] = [  # n_in, n_out
    (nn.Linear(300, 100), 300, 100),
    (nn.Linear(100, 300, bias=False), 100, 300),
    (nn.Conv1d(64, 128, 3), 64 * 3, 128 * 3),
    (nn.Conv2d(32, 64, 5, groups=2, stride=2), 16 * 25, 32 * 25),
    (nn.Conv3d(8, 16, 3), 8 * 27, 16 * 27),
    (nn.ConvTranspose2d(32, 64, 4, groups=2), 16 * 16, 32 * 16),
    (nn.ConvTranspose1d(64, 512, 2, groups=2), 32 * 2, 256 * 2),
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


@pytest.mark.parametrize(("layer", "n_in", "n_out"), LAYERS, ids=lambda value: type(value).__name__)
def test_lecun_and_normal_variance(layer: nn.Linear, n_in: int, n_out: int) -> None:
    lecun(layer)
    assert layer.weight.std().item() == pytest.approx(n_in**-0.5, rel=0.05)
    assert layer.weight.abs().max().item() > 3 * n_in**-0.5  # normal, not uniform
    for std in (0.01, 0.3):  # whatever the layer's size
        normal(layer, std)
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
        assert layer.weight.mean().item() == pytest.approx(0, abs=std / 10)


@pytest.mark.parametrize("gain", [1.0, 2.0])
@pytest.mark.parametrize(("layer", "n_in", "n_out"), LAYERS, ids=lambda value: type(value).__name__)
def test_orthogonal_rows_or_columns(layer: Any, n_in: int, n_out: int, gain: float) -> None:
    orthogonal(layer, gain)
    for matrix in matrices(layer):
        rows, columns = matrix.shape
        assert columns == n_in
        product = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
        torch.testing.assert_close(product, gain**2 * torch.eye(min(rows, columns)), rtol=0, atol=1e-5)


def matrices(layer: Any) -> list[Tensor]:
    """(n_out, n_in) of each group, cut out of the weight by hand."""
    weight, groups = layer.weight.detach(), getattr(layer, "groups", 1)
    per_group = weight.chunk(groups)
    if getattr(layer, "transposed", False):  # (inputs, units, *taps)
        return [torch.stack([part[:, unit].flatten() for unit in range(part.shape[1])]) for part in per_group]
    return [torch.stack([row.flatten() for row in part]) for part in per_group]


def test_orthogonal_keeps_norms_where_lecun_spreads_them() -> None:
    """A linear net of 20 layers: one isometry, against a product of matrices that are so only on average."""
    x = torch.randn(32, 64, dtype=torch.float64)
    net = nn.Sequential(*(nn.Linear(64, 64, dtype=torch.float64) for _ in range(20)))
    orthogonal(net)
    torch.testing.assert_close(net(x).norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)
    orthogonal(net, gain=1.1)
    torch.testing.assert_close(net(x).norm(dim=1), 1.1**20 * x.norm(dim=1), rtol=1e-12, atol=0)
    lecun(net)
    stretched = net(x).norm(dim=1) / x.norm(dim=1)
    assert stretched.max() > 2 * stretched.min()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 16, 2, stride=2),
        nn.Conv2d(4, 16, 2, stride=2, groups=2),
        nn.ConvTranspose2d(8, 8, 1, groups=2),
        nn.ConvTranspose2d(8, 16, 1, groups=2),  # more units than inputs
        nn.Linear(6, 9),
    ],
    ids=str,
)
def test_orthogonal_layers_keep_norms(layer: nn.Module) -> None:
    """By what they compute: convolutions whose windows do not overlap are their matrix."""
    orthogonal(layer)
    x = torch.randn(5, getattr(layer, "in_channels", 6), 6, 6)
    torch.testing.assert_close(layer(x).flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))


def test_zeros_passes_nothing_back() -> None:
    """The gradient of every hidden layer is exactly 0, at the first step and after ten: only the last bias learns."""
    net = create_model("mlp")
    zeros(net)
    assert not any(p.any() for p in net.parameters())
    before = state(net)
    for gradients in train(net, steps=10):
        assert [name for name, gradient in gradients.items() if gradient.any()] == ["head.bias"]
    assert [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])] == ["head.bias"]


@pytest.mark.parametrize(("initializer", "alike"), [(constant, True), (normal, False)])
def test_constant_keeps_the_units_of_a_layer_alike(initializer: Callable[[nn.Module], None], alike: bool) -> None:
    """However long it trains; the same size drawn at random makes every pair of units differ."""
    net = create_model("mlp", width=8, activation="tanh").double()
    initializer(net)
    start = state(net)
    for _ in train(net, steps=50):
        pass
    for layer in ("layers.0", "layers.1"):
        weight = net.get_parameter(f"{layer}.weight").detach()
        assert (weight - start[f"{layer}.weight"]).abs().max() > 0.01  # it did learn
        assert (torch.pdist(weight) < 1e-9).unique().tolist() == [alike]


def train(net: nn.Module, steps: int) -> Iterator[dict[str, Tensor]]:
    """Adam on random pictures; the gradients of each step by name."""
    x, y = torch.rand(64, 1, 28, 28), torch.randint(10, (64,))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x.to(next(net.parameters()))), y).backward()
        optimizer.step()
        yield {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def test_links_of_unequal_units() -> None:
    """C3 of LeNet-5: maps of three, four and six inputs in one weight."""
    c3 = create_model("lenet5_1998").get_submodule("c3")
    he(c3)
    weight, fan_in = c3.get_parameter("weight").detach(), c3.get_buffer("fan_in")
    assert (weight * (fan_in / 2).sqrt()).var().item() == pytest.approx(1, rel=0.1)
    for initializer in (lecun, orthogonal):  # rows of different length cannot be orthogonal
        initializer(c3)
        assert (weight * fan_in.sqrt()).var().item() == pytest.approx(1, rel=0.1)
    orthogonal(c3, gain=2.0)
    assert (weight * fan_in.sqrt()).var().item() == pytest.approx(4, rel=0.1)
    xavier(c3)
    assert weight.abs().amax((1, 2)).le((6 / (fan_in.flatten() + 250)).sqrt()).all()  # 10 links of 25 leave each map


@pytest.mark.parametrize("initializer", DRAWN)
@pytest.mark.parametrize("name", ["mlp", "lenet5"])
def test_biases_are_zero_and_weights_are_new(initializer: Callable[[nn.Module], None], name: str) -> None:
    net = create_model(name)
    before = state(net)
    initializer(net)
    for key, value in net.state_dict().items():
        assert not torch.equal(value, before[key]), key
        assert value.any().item() is (not key.endswith("bias")), key


@pytest.mark.parametrize("initializer", DRAWN)
def test_same_seed_same_weights(initializer: Callable[[nn.Module], None]) -> None:
    drawn = []
    for seed in (1, 1, 2):
        net = nn.Linear(20, 30)
        torch.manual_seed(seed)
        initializer(net)
        drawn.append(net.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("initializer", ALL)
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


@pytest.mark.parametrize("initializer", ALL)
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
