"""Both LeNets against the paper, layer by layer, and the proof that a change in one layer is noticed."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo import create_model
from dl_zoo.models.lenet5 import LeNet5
from dl_zoo.models.lenet5_1998 import LeNet5Of1998, TableConv2d, bitmaps, squash

# Table I of the paper: a row is a map of S2, a column a map of C3.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


class Row(NamedTuple):
    layer: str
    output: tuple[int, ...]
    kernel: int | None
    stride: int | None
    parameters: int


MODERN = [
    Row("c1", (6, 28, 28), 5, 1, 156),
    Row("s2", (6, 14, 14), 2, 2, 0),
    Row("c3", (16, 10, 10), 5, 1, 2416),
    Row("s4", (16, 5, 5), 2, 2, 0),
    Row("c5", (120, 1, 1), 5, 1, 48120),
    Row("f6", (84,), None, None, 10164),
    Row("output", (10,), None, None, 850),
]
ORIGINAL = [
    Row("c1", (6, 28, 28), 5, 1, 156),
    Row("s2", (6, 14, 14), 2, 2, 12),
    Row("c3", (16, 10, 10), 5, 1, 1516),
    Row("s4", (16, 5, 5), 2, 2, 32),
    Row("c5", (120, 1, 1), 5, 1, 48120),
    Row("f6", (84,), None, None, 10164),
    Row("output", (10,), None, None, 0),
]
CONNECTIONS = {"c1": 122304, "s2": 5880, "c3": 151600, "s4": 2000, "c5": 48120, "f6": 10164, "output": 840}


def watch(net: nn.Module, layers: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and output of each layer for one random picture."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def remember(layer: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            seen[layer] = (inputs[0].detach(), output.detach())

        return hook

    handles = [net.get_submodule(layer).register_forward_hook(remember(layer)) for layer in layers]
    net(torch.randn(1, 1, 32, 32))
    for handle in handles:
        handle.remove()
    return seen


def side(value: Any) -> int | None:
    """A kernel's or stride's side, from 2, (2, 2) or nothing; unequal sides are an error."""
    sides = {value} if isinstance(value, int | None) else set(value)
    assert len(sides) == 1
    return sides.pop()


def check(net: nn.Module, rows: Sequence[Row]) -> None:
    """Assert that the net's layers are those of the table, in this order, and that nothing else has parameters."""
    seen = watch(net, [row.layer for row in rows])
    assert list(seen) == [row.layer for row in rows]
    for row in rows:
        layer: Any = net.get_submodule(row.layer)
        kernel, stride = side(getattr(layer, "kernel_size", None)), side(getattr(layer, "stride", None))
        parameters = sum(p.numel() for p in layer.parameters())
        assert Row(row.layer, tuple(seen[row.layer][1].shape[1:]), kernel, stride, parameters) == row
    assert sum(p.numel() for p in net.parameters()) == sum(row.parameters for row in rows)


def support(layer: nn.Module, inputs: Tensor, unit: int) -> Tensor:
    """Which inputs the first unit of an output map depends on, by its gradient: bool, shaped as one input."""
    inputs = inputs.clone().requires_grad_()
    output = layer(inputs)[0, unit].flatten()[0]
    return torch.autograd.grad(output, inputs)[0][0] != 0


def connections(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Inputs and bias of each unit, summed over the units; all units of a map have the same number."""
    bias = int(getattr(layer, "bias", None) is not None)
    positions = output[0, 0].numel()
    return sum(positions * (int(support(layer, inputs, unit).sum()) + bias) for unit in range(output.shape[1]))


def test_modern_table() -> None:
    check(LeNet5(), MODERN)
    assert sum(row.parameters for row in MODERN) == 61706


def test_modern_switches() -> None:
    check(LeNet5(activation="tanh", pooling="avg", dropout=0.5), MODERN)
    assert isinstance(LeNet5(pooling="avg").s2, nn.AvgPool2d)
    with pytest.raises(ValueError, match="relu, tanh"):
        LeNet5(activation="rleu")
    with pytest.raises(ValueError, match="max, avg"):
        LeNet5(pooling="maximum")


def test_original_table() -> None:
    check(LeNet5Of1998(), ORIGINAL)
    assert sum(row.parameters for row in ORIGINAL) == 60000


@pytest.mark.parametrize(
    ("layer", "changed"),
    [
        ("c1", nn.Conv2d(1, 6, 7, padding=1)),  # kernel
        ("c1", nn.Conv2d(1, 6, 5, stride=2, padding=14)),  # stride
        ("c1", nn.Conv2d(1, 6, 5, bias=False)),  # parameters
        ("s2", nn.MaxPool2d(3, 2, padding=1)),
        ("s2", nn.Conv2d(6, 6, 2, stride=2)),
        ("c3", nn.Conv2d(6, 16, 5, groups=2)),
        ("s4", nn.MaxPool2d(3, 2, padding=1)),
        ("c5", nn.Conv2d(16, 120, 3, padding=1, stride=5)),
        ("f6", nn.Linear(120, 84, bias=False)),
        ("output", nn.Linear(84, 11)),
    ],
)
@pytest.mark.parametrize(("net", "rows"), [(LeNet5(), MODERN), (LeNet5Of1998(), ORIGINAL)], ids=["modern", "original"])
def test_a_changed_layer_is_noticed(net: nn.Module, rows: Sequence[Row], layer: str, changed: nn.Module) -> None:
    mutant = copy.deepcopy(net)
    if layer == "output" and isinstance(net, LeNet5Of1998):
        changed = nn.Linear(84, 10)  # trainable outputs instead of fixed pictures
    setattr(mutant, layer, changed)
    with pytest.raises(AssertionError):
        check(mutant, rows)


def test_a_full_c3_is_not_the_original() -> None:
    net = LeNet5Of1998()
    net.c3 = TableConv2d(6, ((0, 1, 2, 3, 4, 5),) * 16)
    with pytest.raises(AssertionError):
        check(net, ORIGINAL)


def test_connections_are_those_of_the_paper() -> None:
    net = LeNet5Of1998()
    seen = watch(net, list(CONNECTIONS))
    assert {layer: connections(net.get_submodule(layer), *seen[layer]) for layer in CONNECTIONS} == CONNECTIONS
    assert sum(CONNECTIONS.values()) == 340908


def test_each_map_of_c3_sees_its_column_of_table_1() -> None:
    net = LeNet5Of1998()
    inputs, _ = watch(net, ["c3"])["c3"]
    table = TABLE_I.split()
    assert sum(row.count("X") for row in table) == 60
    for unit in range(16):
        seen = support(net.c3, inputs, unit)  # (6, 14, 14)
        assert "".join("X" if i else "." for i in seen.any((1, 2))) == "".join(row[unit] for row in table)
        assert seen[seen.any((1, 2)), :5, :5].all()
        assert seen.sum() == 25 * seen.any((1, 2)).sum()


def test_c3_equals_a_convolution_of_each_map_on_its_own() -> None:
    c3, x = LeNet5Of1998().c3, torch.randn(2, 6, 14, 14)
    kernels = iter(c3.weight)
    for unit in range(16):
        sources = [i for i, row in enumerate(TABLE_I.split()) if row[unit] == "X"]
        kernel = torch.stack([next(kernels) for _ in sources])[None]
        alone = F.conv2d(x[:, sources], kernel, c3.bias[unit : unit + 1])
        torch.testing.assert_close(c3(x)[:, unit : unit + 1], alone)
    assert next(kernels, None) is None


def test_subsampling_is_sum_times_coefficient_plus_bias() -> None:
    s2, x = LeNet5Of1998().s2, torch.randn(2, 6, 28, 28)
    window = x[:, :, 2:4, 4:6].sum((2, 3))
    torch.testing.assert_close(s2(x)[:, :, 1, 2], window * s2.weight + s2.bias)


def test_squashing() -> None:
    a = torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0])
    torch.testing.assert_close(squash(a), torch.tensor([-1.7159, -1.0, 0.0, 1.0, 1.7159]), atol=1e-4, rtol=0)


def test_initial_weights_are_within_2_4_by_fan_in() -> None:
    net = LeNet5Of1998()
    fan_in = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}
    for layer, inputs in fan_in.items():
        largest = max(p.abs().max().item() for p in net.get_submodule(layer).parameters())
        assert 0.5 < largest * inputs / 2.4 <= 1, layer
    links = torch.tensor([3.0] * 18 + [4.0] * 36 + [6.0] * 6) * 25
    assert torch.equal(net.c3.fan_in.flatten(), links)
    assert 0.9 < (net.c3.weight * net.c3.fan_in).abs().max() / 2.4 <= 1


def test_bitmaps() -> None:
    pictures = bitmaps()
    assert pictures.shape == (10, 84)
    assert set(pictures.unique().tolist()) == {-1.0, 1.0}
    differing = (pictures[:, None] != pictures).sum(2) + 84 * torch.eye(10, dtype=torch.long)
    assert differing.min() >= 12  # so a wrong picture is at a distance of at least 4 * 12
    assert (pictures.view(10, 12, 7) == 1).any(2).all()  # each fills the height
    net = LeNet5Of1998()
    assert torch.equal(net.state_dict()["output.code"], pictures)
    assert net.output.code.requires_grad is False


def test_logits_are_minus_squared_distances() -> None:
    net, pictures = LeNet5Of1998(), bitmaps()
    differing = (pictures[:, None] != pictures).sum(2)
    torch.testing.assert_close(net.output(pictures), -4.0 * differing)
    torch.testing.assert_close(LeNet5Of1998(scale=0.1).output(pictures), -0.4 * differing)
    x, target = torch.randn(5, 84), torch.arange(5)
    y = (x[:, None] - pictures).square().sum(2)
    equation_9 = y[range(5), target] + torch.logsumexp(-y, 1)  # without e^-j
    torch.testing.assert_close(F.cross_entropy(net.output(x), target, reduction="none"), equation_9)


def test_digits_only() -> None:
    with pytest.raises(ValueError, match="ten digits only"):
        LeNet5Of1998(num_classes=5)
    assert create_model("lenet5", num_classes=5)(torch.zeros(1, 1, 32, 32)).shape == (1, 5)
