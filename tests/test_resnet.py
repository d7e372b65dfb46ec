"""ResNets against the paper, layer by layer, against torchvision, and their plain twins against themselves."""

import copy
import itertools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dl_zoo.models.resnet import BasicBlock, ResNet, ZeroPadding, make_shortcut
from dl_zoo.models.resnet_cifar import ResNetCifar


class Row(NamedTuple):
    """A convolution or dense layer off the shortcuts."""

    layer: str
    output: tuple[int, ...]
    kernel: int
    stride: int
    padding: int
    groups: int
    parameters: int


IMAGENET = {  # table 1: kernels of a block, blocks of each stage, billions of multiplications
    18: ((3, 3), (2, 2, 2, 2), 1.8),
    34: ((3, 3), (3, 4, 6, 3), 3.6),
    50: ((1, 3, 1), (3, 4, 6, 3), 3.8),
    101: ((1, 3, 1), (3, 4, 23, 3), 7.6),
    152: ((1, 3, 1), (3, 8, 36, 3), 11.3),
}
CIFAR = {20: 269722, 32: 464154, 44: 658586, 56: 853018, 110: 1727962, 1202: 19421274}


def conv_row(layer: str, inputs: int, outputs: int, size: int, kernel: int, stride: int = 1) -> Row:
    return Row(layer, (outputs, size, size), kernel, stride, kernel // 2, 1, inputs * outputs * kernel**2)


def imagenet_rows(depth: int, halving: int) -> list[Row]:
    """`halving`: which convolution of a block halves the size."""
    kernels, stages, _ = IMAGENET[depth]
    rows, inputs, size = [conv_row("conv1", 3, 64, 112, 7, 2)], 64, 56
    for stage, blocks in enumerate(stages):
        for block, (place, kernel) in itertools.product(range(blocks), enumerate(kernels)):
            stride = 2 if stage > 0 and block == 0 and place == halving else 1
            size //= stride
            outputs = 64 * 2**stage * (4 if place == 2 else 1)
            rows.append(conv_row(f"layer{stage + 1}.{block}.conv{place + 1}", inputs, outputs, size, kernel, stride))
            inputs = outputs
    return [*rows, Row("fc", (1000,), 1, 1, 0, 1, 1000 * (inputs + 1))]


def cifar_rows(depth: int) -> list[Row]:
    rows, inputs, size = [conv_row("conv1", 3, 16, 32, 3)], 16, 32
    for stage, block, place in itertools.product(range(3), range((depth - 2) // 6), range(2)):
        stride = 2 if stage > 0 and block == place == 0 else 1
        size //= stride
        outputs = 16 * 2**stage
        rows.append(conv_row(f"layer{stage + 1}.{block}.conv{place + 1}", inputs, outputs, size, 3, stride))
        inputs = outputs
    return [*rows, Row("fc", (10,), 1, 1, 0, 1, 650)]


def table(net: nn.Module, size: int) -> list[Row]:
    """The rows of a net on `meta`, in the order of the pass."""
    rows = []

    def see(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            numbers = [getattr(layer, key, (other,)) for key, other in NUMBERS.items()]
            groups = getattr(layer, "groups", 1)
            parameters = sum(p.numel() for p in layer.parameters())
            rows.append(Row(name, tuple(output.shape[1:]), *(one(n) for n in numbers), groups, parameters))

        return hook

    layers = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in n}
    handles = [layer.register_forward_hook(see(name)) for name, layer in layers.items()]
    with torch.device("meta"):
        net(torch.empty(2, 3, size, size))
    for handle in handles:
        handle.remove()
    return rows


NUMBERS = {"kernel_size": 1, "stride": 1, "padding": 0}  # and what a dense layer counts as


def one(sides: tuple[int, ...]) -> int:
    assert len(set(sides)) == 1
    return sides[0]


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def on_meta(build: Callable[..., nn.Module], *args: object, **kwargs: object) -> nn.Module:
    with torch.device("meta"):
        return build(*args, **kwargs)


# ---- the paper's tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", IMAGENET)
@pytest.mark.parametrize(("stride_in", "halving"), [("1x1", 0), ("3x3", 1)])
def test_table_1(depth: int, stride_in: str, halving: int) -> None:
    net = on_meta(ResNet, depth, stride_in=stride_in)
    assert table(net, 224) == imagenet_rows(depth, halving if depth >= 50 else 0)
    convolutions = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    assert convolutions == sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert all(m.bias is None for m in net.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("depth", [18, 50, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 101, 152))])
def test_multiplications_of_the_paper_with_its_place_of_the_stride(depth: int) -> None:
    counted = {}
    for place in ("1x1", "3x3"):
        with FlopCounterMode(display=False) as flops, torch.device("meta"):
            ResNet(depth, stride_in=place).eval()(torch.empty(1, 3, 224, 224))
        counted[place] = flops.get_total_flops() / 2e9  # two operations a multiplication
    assert counted["1x1"] == pytest.approx(IMAGENET[depth][2], abs=0.07)  # it rounds some and cuts others
    assert (counted["3x3"] > counted["1x1"]) == (depth >= 50)


@pytest.mark.parametrize("depth", [*list(CIFAR)[:-1], pytest.param(1202, marks=pytest.mark.slow)])
def test_cifar_table(depth: int) -> None:
    nets = {option: on_meta(ResNetCifar, depth, shortcut=option) for option in "AB"}
    plain = on_meta(ResNetCifar, depth, residual=False)
    for net in (*nets.values(), plain):
        assert table(net, 32) == cifar_rows(depth)
    assert (count(nets["A"]), count(nets["B"])) == (CIFAR[depth], CIFAR[depth] + 2752)  # 32 * 18 + 64 * 34
    assert plain.state_dict().keys() == nets["A"].state_dict().keys()


@pytest.mark.parametrize(
    ("layer", "changed"),
    [
        ("conv1", nn.Conv2d(3, 64, 7, 4, padding=3, bias=False)),  # stride
        ("conv1", nn.Conv2d(3, 64, 5, 2, padding=2, bias=False)),  # kernel and padding
        ("conv1", nn.Conv2d(3, 64, 7, 2, padding=3)),  # parameters
        ("maxpool", nn.MaxPool2d(3, 1, padding=1)),
        ("layer2.0.conv2", nn.Conv2d(128, 128, 3, 2, padding=1, groups=2, bias=False)),
        ("layer3.5", nn.Identity()),
        ("fc", nn.Linear(2048, 1000, bias=False)),
    ],
)
def test_a_changed_layer_is_noticed(layer: str, changed: nn.Module) -> None:
    net = copy.deepcopy(on_meta(ResNet, 50))
    net.set_submodule(layer, changed.to("meta"))
    assert table(net, 224) != imagenet_rows(50, 1)


# ---- shortcuts ---------------------------------------------------------------------------------------------------


def test_shortcut_a_takes_every_other_pixel_and_splits_the_zeros() -> None:
    x = torch.randn(2, 3, 5, 6)
    y = ZeroPadding(3, stride=2)(x)
    assert y.shape == (2, 6, 3, 3)
    assert not y[:, 0].any()
    assert torch.equal(y[:, 1:4], x[:, :, ::2, ::2])
    assert not y[:, 4:].any()


def test_which_blocks_project() -> None:
    sizes = {(1, 16): None, (1, 32): ZeroPadding, (2, 16): ZeroPadding, (2, 32): ZeroPadding}
    for (stride, outputs), padding in sizes.items():
        a, b, c = (make_shortcut(option, 16, outputs, stride) for option in "ABC")
        assert (type(a) is padding) if padding else (a is None)
        assert (b is None) if padding is None else (count(b) == 16 * outputs + 2 * outputs)
        assert count(c) == 16 * outputs + 2 * outputs


@pytest.mark.parametrize(("depth", "projected"), [(18, 172032), (34, 172032), (50, 2768896)])
def test_counts_by_shortcut(depth: int, projected: int) -> None:
    """A has no projections, B one a stage whose size changes, C one a block."""
    a, b, c, plain = (
        on_meta(ResNet, depth, **arguments)
        for arguments in ({"shortcut": "A"}, {"shortcut": "B"}, {"shortcut": "C"}, {"residual": False})
    )
    projections = [m for n, m in b.named_modules() if n.endswith("downsample.0")]
    assert sum(count(m) for m in projections) == projected
    assert count(b) - count(a) == projected + 2 * sum(m.out_channels for m in projections)
    assert sum(n.endswith("downsample.0") for n, _ in c.named_modules()) == sum(IMAGENET[depth][1])
    assert plain.state_dict().keys() == a.state_dict().keys()


def test_a_block_adds_its_input_and_its_plain_twin_does_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6).relu()
    block, twin = (BasicBlock(8, 8, 1, "A", residual).eval() for residual in (True, False))
    twin.load_state_dict(block.state_dict())
    added = F.conv2d(F.conv2d(x, block.conv1.weight, padding=1).relu(), block.conv2.weight, padding=1)
    assert torch.allclose(block(x), (x + added).relu(), atol=1e-3)  # eval: norms divide by sqrt(1 + 1e-5)
    assert torch.allclose(twin(x), added.relu(), atol=1e-3)
    for norm in (block.bn2, twin.bn2):
        nn.init.zeros_(norm.weight)
    assert torch.equal(block(x), x)
    assert not twin(x).any()


def test_wrong_arguments() -> None:
    for build, message in {
        lambda: ResNet(20): "depth=20 is not one of 18, 34, 50, 101, 152",
        lambda: ResNet(stride_in="2x2"): "stride_in='2x2' is not one of 1x1, 3x3",
        lambda: ResNet(shortcut="D"): "shortcut='D' is not one of A, B, C",
        lambda: ResNetCifar(18): r"depth=18 is not 6n \+ 2",
        lambda: ResNetCifar(2): r"depth=2 is not 6n \+ 2",
        lambda: ResNetCifar(shortcut="a"): "shortcut='a' is not one of A, B, C",
    }.items():
        with pytest.raises(ValueError, match=message):
            build()


def test_initial_weights() -> None:
    torch.manual_seed(0)
    net = ResNetCifar(depth=20)
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.out_channels >= 32:
            fan_out = layer.out_channels * 9
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name
        if isinstance(layer, nn.BatchNorm2d):  # the last one of a block is no exception
            assert layer.weight.eq(1).all()


# ---- torchvision -------------------------------------------------------------------------------------------------


def theirs(depth: int) -> nn.Module:
    return getattr(torchvision.models, f"resnet{depth}")()


@pytest.mark.parametrize("depth", IMAGENET)
def test_state_dict_is_torchvisions(depth: int) -> None:
    one, other = on_meta(ResNet, depth).state_dict(), on_meta(theirs, depth).state_dict()
    assert [(key, value.shape) for key, value in one.items()] == [(key, value.shape) for key, value in other.items()]


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("depth", [18, 50, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 101, 152))])
def test_logits_and_gradients_are_torchvisions(depth: int, training: bool) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        ours, other = ResNet(depth), theirs(depth)
    other = other.to_empty(device="cpu")
    for key, value in other.state_dict().items():  # no weight, scale or running number at its initial value
        if value.is_floating_point():
            spread = (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
            value.normal_(0, spread).add_(value.ndim == 1)
            if key.endswith("running_var"):
                value.abs_()
        else:
            value.zero_()
    ours.load_state_dict(other.state_dict(), assign=True)
    ours = copy.deepcopy(ours)  # not the same tensors: running numbers move in training
    x, y = torch.randn(4, 3, 64, 64), torch.randint(0, 1000, (4,))
    logits = []
    for net in (ours, other):
        logits.append(net.train(training)(x))
        F.cross_entropy(logits[-1], y).backward()
    assert relative(*logits) < 1e-4
    for (key, a), (name, b) in zip(ours.named_parameters(), other.named_parameters(), strict=True):
        assert key == name
        assert relative(a.grad, b.grad) < 1e-4, key
    for key, buffer in ours.named_buffers():
        assert torch.allclose(buffer.float(), other.get_buffer(key).float(), rtol=1e-4, atol=1e-6), key


def test_the_papers_place_of_the_stride_is_another_net() -> None:
    torch.manual_seed(0)
    one, other = (ResNet(50, width=4, num_classes=5, stride_in=place).eval() for place in ("1x1", "3x3"))
    one.load_state_dict(other.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert relative(one(x), other(x)) > 1e-2
