"""The small nets of the ablations: that their arms differ in what is compared, and in nothing else."""

from typing import Any

import pytest
import torch
from test_alexnet import Row, mismatches, picture
from torch import Tensor, nn

from dl_zoo.models.conv4 import Conv4
from dl_zoo.models.conv_stack import ConvStack

CONV4 = [
    Row("conv1", (32, 32, 32), 5, 1, 2, 1, 2432),
    Row("conv2", (32, 16, 16), 5, 1, 2, 1, 25632),
    Row("conv3", (64, 8, 8), 5, 1, 2, 1, 51264),
    Row("fc", (10,), None, None, None, None, 10250),
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "switch", [{}, {"activation": "tanh"}, {"lrn": True}, {"overlapping": False}, {"dropout": 0.5}], ids=str
)
def test_conv4_has_one_table_for_all_its_arms(switch: dict[str, Any]) -> None:
    with torch.device("meta"):
        assert mismatches(Conv4(**switch), CONV4, picture(32)) == []


@pytest.mark.parametrize(
    ("layer", "changed"),
    [
        ("conv1", nn.Conv2d(3, 32, 3, padding=1)),
        ("pool", nn.MaxPool2d(3, 2)),
        ("conv3", nn.Conv2d(32, 64, 5, padding=2, groups=2)),
        ("fc", nn.Linear(1024, 11)),
    ],
)
def test_a_changed_layer_is_noticed(layer: str, changed: nn.Module) -> None:
    with torch.device("meta"):
        net = Conv4()
    setattr(net, layer, changed.to("meta"))
    assert mismatches(net, CONV4, picture(32))


@pytest.mark.parametrize("lrn", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_conv4_by_the_papers_order(activation: str, lrn: bool) -> None:
    """Convolution, nonlinearity, pooling, normalisation (AlexNet's section 3.5, with the pooling of cuda-convnet)."""
    net, f = Conv4(width=8, activation=activation, lrn=lrn), getattr(torch, activation)

    def normalised(a: Tensor) -> Tensor:
        near = [a[:, max(0, i - 2) : i + 3].square().sum(1) for i in range(a.shape[1])]
        return a / (2 + 1e-4 * torch.stack(near, 1)) ** 0.75 if lrn else a

    a = x = 20 * torch.randn(2, 3, 32, 32)  # large, or the normalisation's alpha would not show
    a = normalised(net.pool(f(net.conv1(a))))
    a = normalised(net.pool(f(net.conv2(a))))
    a = net.pool(f(net.conv3(a)))
    torch.testing.assert_close(net(x), net.fc(a.flatten(1)))


def test_conv4_pools_over_windows_of_3_or_2() -> None:
    """The last window of an overlapping pooling hangs over the edge by one, so that both give half the side."""
    x = torch.arange(36.0).view(1, 1, 6, 6)
    overlapping, apart = (Conv4(width=4, overlapping=on).pool(x)[0, 0] for on in (True, False))
    assert overlapping.tolist() == [[14, 16, 17], [26, 28, 29], [32, 34, 35]]
    assert apart.tolist() == [[7, 9, 11], [19, 21, 23], [31, 33, 35]]


def test_conv4_initial_weights_suit_the_nonlinearity() -> None:
    inputs, outputs = {"conv1": 75, "conv2": 800, "conv3": 800}, {"conv1": 800, "conv2": 800, "conv3": 1600}
    for name, n_in in inputs.items():
        he, xavier = (Conv4(activation=f).get_submodule(name).weight.std().item() for f in ("relu", "tanh"))
        assert abs(he / (2 / n_in) ** 0.5 - 1) < 0.1, name
        assert abs(xavier / (2 / (n_in + outputs[name])) ** 0.5 - 1) < 0.1, name
    assert abs(Conv4().fc.weight.std().item() / 0.01 - 1) < 0.1
    assert not any(p.any() for key, p in Conv4().named_parameters() if key.endswith("bias"))


def test_conv4_refuses() -> None:
    with pytest.raises(ValueError, match="relu, tanh"):
        Conv4(activation="rleu")
    with pytest.raises(RuntimeError):
        Conv4()(picture(40, "cpu"))


def sees(stage: nn.Module, width: int) -> Tensor:
    """Which places of a 9x9 input the middle of the output depends on: bool (9, 9)."""
    x = torch.randn(1, width, 9, 9, requires_grad=True)
    stage(x)[0, :, 4, 4].sum().backward()
    assert x.grad is not None
    return x.grad[0].any(0)


@pytest.mark.parametrize("kernel", ["3x3pair", "5x5"])
def test_a_stage_sees_5x5(kernel: str) -> None:
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[2:7, 2:7] = True
    for stage in ConvStack(width=16, kernel=kernel).stages:
        assert torch.equal(sees(stage, 16), expected)


def test_a_stage_has_18_or_25_weights_a_pair_of_maps() -> None:
    pair, single = (ConvStack(kernel=kernel) for kernel in ("3x3pair", "5x5"))
    for each, weights in ((pair, 73_728), (single, 102_400)):  # 18 and 25 times 64^2
        assert [sum(p.numel() for p in stage.parameters() if p.ndim > 1) for stage in each.stages] == [weights] * 3
    for part in ("stem", "pool", "fc"):
        assert str(pair.get_submodule(part)) == str(single.get_submodule(part))
    assert sum(isinstance(layer, nn.ReLU) for layer in pair.stages.modules()) == 6
    assert sum(isinstance(layer, nn.ReLU) for layer in single.stages.modules()) == 3


def test_a_pair_has_a_nonlinearity_between() -> None:
    """By the formula, which the same without the ReLU does not fulfil."""
    first, second = ConvStack(width=8).stages[0]
    x = torch.randn(1, 8, 9, 9)
    inner = second[0]
    torch.testing.assert_close(second(first(x)), inner(first[0](x).relu()).relu())
    assert not torch.allclose(inner(first(x)), inner(first[0](x)), rtol=0.1)


def test_conv_stack_signal_neither_grows_nor_dies() -> None:
    for kernel in ("3x3pair", "5x5"):
        features = ConvStack(num_classes=0, width=64, kernel=kernel)(torch.randn(4, 3, 32, 32))
        assert features.shape == (4, 64)
        assert 0.3 < features.square().mean().sqrt() < 5


def test_conv_stack_smallest_picture() -> None:
    assert ConvStack(width=8)(picture(8, "cpu")).shape == (1, 10)
    with pytest.raises(RuntimeError):
        ConvStack(width=8)(picture(7, "cpu"))
    with pytest.raises(ValueError, match="3x3pair, 5x5"):
        ConvStack(kernel="3x3")


@pytest.mark.parametrize("net", [Conv4, ConvStack])
def test_heads_name_what_depends_on_the_classes(net: type[Conv4] | type[ConvStack]) -> None:
    five, seven = net(num_classes=5, width=8), net(num_classes=7, width=8)
    shapes = {key: value.shape for key, value in five.state_dict().items()}
    changed = {key.rpartition(".")[0] for key, value in seven.state_dict().items() if value.shape != shapes[key]}
    assert changed == set(five.heads)
    features = net(num_classes=0, width=8).eval()(picture(32, "cpu"))
    assert features.shape == (1, five.fc.in_features)
