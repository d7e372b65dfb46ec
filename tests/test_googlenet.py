"""GoogLeNet against its paper, layer by layer, with proof that a change is noticed; and torchvision's, by parity."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from test_alexnet import Row, gradients, mismatches, picture, relative
from torch import Tensor, nn

from dl_zoo.models.googlenet import GoogLeNet
from dl_zoo.models.googlenet_tv import GoogLeNetTV

# Table 1: the side of the maps, what goes in, and #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
TABLE_1 = """
3a 28 192   64  96 128 16  32  32
3b 28 256  128 128 192 32  96  64
4a 14 480  192  96 208 16  48  64
4b 14 512  160 112 224 24  64  64
4c 14 512  128 128 256 24  64  64
4d 14 512  112 144 288 32  64  64
4e 14 528  256 160 320 32 128 128
5a 7 832   256 160 320 32 128 128
5b 7 832   384 192 384 48 128 128
"""


def convolution(layer: str, n_in: int, n_out: int, side: int, kernel: int = 1, stride: int = 1) -> Row:
    padding = kernel // 2
    return Row(layer, (n_out, side, side), kernel, stride, padding, 1, n_out * (n_in * kernel**2 + 1))


def pool(layer: str, n: int, side: int, kernel: int = 3, stride: int = 2, padding: int = 0) -> Row:
    return Row(layer, (n, side, side), kernel, stride, padding, None, 0)


def norm(layer: str, n: int, side: int) -> Row:
    return Row(layer, (n, side, side), None, None, None, None, 0)


def dense(layer: str, n_in: int, n_out: int) -> Row:
    return Row(layer, (n_out,), None, None, None, None, n_out * (n_in + 1))


def module(name: str) -> list[Row]:
    """The layers of an Inception module, in the order in which they run."""
    row = next(line.split() for line in TABLE_1.split("\n") if line.startswith(name))
    side, n_in, one, reduce3, three, reduce5, five, projected = map(int, row[1:])
    at = f"inception{name}"
    return [
        convolution(f"{at}.reduce3x3", n_in, reduce3, side),
        convolution(f"{at}.reduce5x5", n_in, reduce5, side),
        pool(f"{at}.pool", n_in, side, 3, 1, 1),
        convolution(f"{at}.project", n_in, projected, side),
        convolution(f"{at}.conv1x1", n_in, one, side),
        convolution(f"{at}.conv3x3", reduce3, three, side, 3),
        convolution(f"{at}.conv5x5", reduce5, five, side, 5),
    ]


def head(at: str, n_in: int) -> list[Row]:
    return [
        pool(f"{at}.pool", n_in, 4, 5, 3),
        convolution(f"{at}.conv", n_in, 128, 4),
        dense(f"{at}.fc1", 2048, 1024),
        dense(f"{at}.fc2", 1024, 1000),
    ]


PAPER = [
    convolution("conv1", 3, 64, 112, 7, 2),
    pool("pool1", 64, 56),
    norm("norm1", 64, 56),
    convolution("conv2", 64, 64, 56),
    convolution("conv3", 64, 192, 56, 3),
    norm("norm2", 192, 56),
    pool("pool2", 192, 28),
    *module("3a"),
    *module("3b"),
    pool("pool3", 480, 14),
    *(row for name in ("4a", "4b", "4c", "4d", "4e") for row in module(name)),
    pool("pool4", 832, 7),
    *module("5a"),
    *module("5b"),
    dense("fc", 1024, 1000),
]
HEADS = [*head("aux1", 512), *head("aux2", 528)]

nets = pytest.mark.parametrize(
    "make",
    [
        lambda **k: GoogLeNet(width=8, lrn=False, stem="cifar", **k),
        lambda **k: GoogLeNetTV(width=8, **k),
    ],
    ids=["googlenet", "googlenet_tv"],
)


def paper_net(**arguments: Any) -> GoogLeNet:
    with torch.device("meta"):
        return GoogLeNet(**arguments)


def count(net: nn.Module, part: str = "") -> int:
    return sum(p.numel() for key, p in net.named_parameters() if part in key)


def test_table() -> None:
    assert mismatches(paper_net(auxiliary=False), PAPER, picture(224)) == []
    assert mismatches(paper_net(), [*PAPER, *HEADS], picture(224), call="with_auxiliary") == []
    assert sum(row.parameters for row in PAPER) == 6_998_552
    assert sum(row.parameters for row in [*PAPER, *HEADS]) == 13_378_280


def test_concatenated_maps() -> None:
    net, seen = paper_net(), []
    for name, layer in net.named_children():
        if name.startswith("inception"):
            layer.register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    net(picture(224))
    assert seen == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


@pytest.mark.parametrize(
    ("layer", "changed"),
    [
        ("conv1", nn.Conv2d(3, 64, 7, 2, 2)),
        ("pool1", nn.MaxPool2d(3, 2)),  # rounded down: 55
        ("norm2", nn.MaxPool2d(3, 1, padding=1)),
        ("conv3", nn.Conv2d(64, 192, 3, padding=1, groups=2)),
        ("inception3a.conv5x5", nn.Conv2d(16, 32, 3, padding=1)),  # torchvision's
        ("inception4b.reduce3x3", nn.Conv2d(512, 112, 1, bias=False)),
        ("inception4e.pool", nn.AvgPool2d(5, 1, padding=2)),
        ("pool4", nn.MaxPool2d(2, 2)),  # torchvision's
        ("inception5b.project", nn.Conv2d(832, 128, 1, groups=2)),
        ("aux1.pool", nn.AvgPool2d(4, 3)),
        ("aux2.fc1", nn.Linear(2048, 1000)),
        ("fc", nn.Linear(1024, 1001)),
    ],
)
def test_a_changed_layer_is_noticed(layer: str, changed: nn.Module) -> None:
    net = paper_net()
    net.set_submodule(layer, changed.to("meta"))
    assert mismatches(net, [*PAPER, *HEADS], picture(224), call="with_auxiliary")


def test_each_branch_adds_its_maps() -> None:
    """Figure 2b, by the formula: ReLU after every convolution, the reductions and the projection included."""
    m, x = GoogLeNet(num_classes=3, width=8).inception3a, torch.randn(2, 24, 6, 6)
    for bias in (layer.bias for layer in m.children() if isinstance(layer, nn.Conv2d)):
        nn.init.normal_(bias)

    def conv(layer: nn.Conv2d, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, layer.weight, layer.bias, padding=padding).relu()

    assert m.reduce3x3 is not None
    assert m.reduce5x5 is not None
    assert m.project is not None
    three = conv(m.conv3x3, conv(m.reduce3x3, x), 1)
    five = conv(m.conv5x5, conv(m.reduce5x5, x), 2)
    projected = conv(m.project, F.max_pool2d(x, 3, 1, 1))
    torch.testing.assert_close(m(x), torch.cat([conv(m.conv1x1, x), three, five, projected], 1))


def test_naive_module() -> None:
    """Figure 2a: no 1x1 reductions, all maps of the input go on, and each module is wider than the one before."""
    net = paper_net(auxiliary=False, bottleneck=False)
    weights = {key: p.numel() for key, p in net.named_parameters() if key.startswith("inception3a") and "weight" in key}
    assert sum(weights.values()) == 387_072  # 192 * (64 + 128 * 9 + 32 * 25)
    assert set(weights) == {f"inception3a.conv{size}.weight" for size in ("1x1", "3x3", "5x5")}
    assert [net.inception3a.channels, net.inception3b.channels, net.inception5b.channels] == [416, 832, 4944]
    reduced = sum(p.numel() for p in paper_net().inception3a.parameters() if p.ndim > 1)
    assert reduced == 163_328
    assert net(picture(224)).shape == (1, 1000)


def test_small_form() -> None:
    net = GoogLeNet(3, 10, width=16, auxiliary=False, stem="cifar").eval()
    assert count(net) == 377_126
    shapes: list[tuple[int, ...]] = []
    for layer in (net.conv1, net.conv3, net.inception3b, net.inception4e, net.inception5b):
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    assert net(picture(32, "cpu")).shape == (1, 10)
    assert shapes == [(16, 32, 32), (48, 32, 32), (120, 32, 32), (208, 16, 16), (256, 8, 8)]


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: GoogLeNet(3, 10, width=8, auxiliary=False, stem="cifar"), 4),
        (lambda: GoogLeNet(3, 10, width=8, auxiliary=False), 31),
        (lambda: GoogLeNetTV(3, 10, width=8), 15),
    ],
)
def test_smallest_picture(make: Callable[[], nn.Module], size: int) -> None:
    net = make().eval()
    assert net(picture(size, "cpu")).shape == (1, 10)
    with pytest.raises(RuntimeError):
        net(picture(size - 1, "cpu"))


def test_unknown_stem() -> None:
    with pytest.raises(ValueError, match="imagenet, cifar"):
        GoogLeNet(stem="imagnet")


@nets
def test_auxiliary_logits_lowest_first(make: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    net, x = make(num_classes=5).eval(), torch.randn(2, 3, 32, 32)
    logits, auxiliary = net.with_auxiliary(x)
    assert torch.equal(logits, net(x))
    assert [tuple(each.shape) for each in auxiliary] == [(2, 5), (2, 5)]
    for once, again in zip(auxiliary, net.auxiliary_logits(x), strict=True):
        assert torch.equal(once, again)
    auxiliary[0].sum().backward()  # the lower head reaches 4a but not 4b, the other one 4b but not 4e
    assert all(p.grad is not None for p in net.inception4a.parameters())
    assert all(p.grad is None for p in net.inception4b.parameters())
    net.auxiliary_logits(x)[1].sum().backward()
    assert all(p.grad is not None for p in net.inception4d.parameters())
    assert all(p.grad is None for p in [*net.inception4e.parameters(), *net.fc.parameters()])


@nets
def test_without_heads(make: Callable[..., Any]) -> None:
    net, x = make(num_classes=5, auxiliary=False).eval(), torch.randn(2, 3, 32, 32)
    assert net.auxiliary_logits(x) == net.with_auxiliary(x)[1] == ()
    assert net.heads == ("fc",)
    assert not [key for key in net.state_dict() if "aux" in key]


@nets
def test_heads_name_what_depends_on_the_classes(make: Callable[..., Any]) -> None:
    five, seven = make(num_classes=5), make(num_classes=7)
    shapes = {key: value.shape for key, value in five.state_dict().items()}
    changed = {key.rpartition(".")[0] for key, value in seven.state_dict().items() if value.shape != shapes[key]}
    assert changed == set(five.heads) == {"fc", "aux1.fc2", "aux2.fc2"}
    features, auxiliary = make(num_classes=0).eval().with_auxiliary(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, five.fc.in_features)
    assert [each.shape[1] for each in auxiliary] == [five.aux1.fc2.in_features] * 2


def test_dropout_rates() -> None:
    net = paper_net()
    assert net.aux1 is not None
    assert net.aux2 is not None
    assert [each.dropout.p for each in (net, net.aux1, net.aux2)] == [0.4, 0.7, 0.7]
    x = torch.randn(2, 3, 32, 32)
    off = GoogLeNet(3, 5, width=8, stem="cifar", dropout=1.0, auxiliary_dropout=1.0).train()
    logits, auxiliary = off.with_auxiliary(x)
    assert not any(each.any() for each in (logits, *auxiliary))  # their biases start at 0


def test_signal_neither_grows_nor_dies() -> None:
    """He's weights: after 22 layers without batch norm the features are of the inputs' order."""
    torch.manual_seed(0)
    net = GoogLeNet(3, 0, width=32, auxiliary=False, stem="cifar").eval()
    size = net(torch.randn(4, 3, 32, 32)).square().mean().sqrt()
    assert 0.1 < size < 10


def test_torchvision_counts() -> None:
    with torch.device("meta"):
        net = GoogLeNetTV()
        assert count(GoogLeNetTV(auxiliary=False)) == 6_624_904
    assert count(net) == 13_004_888
    stated = {"conv1": 9536, "3a": 155872, "4c": 486192, "5b": 1347040, "aux1": 3188968, "aux2": 3191016, "fc": 1025000}
    for part, parameters in stated.items():
        prefix = f"inception{part}." if part[0].isdigit() else f"{part}."
        assert sum(p.numel() for key, p in net.named_parameters() if key.startswith(prefix)) == parameters


def test_initial_weights_are_torchvisions() -> None:
    torch.manual_seed(0)
    net = GoogLeNetTV(width=16)
    for key, parameter in net.named_parameters():
        if parameter.ndim > 1:
            assert abs(parameter.std().item() / 0.01 - 1) < 0.25, key
    assert net.fc.bias.any()  # torch's default, as there


def both(auxiliary: bool) -> tuple[nn.Module, GoogLeNetTV]:
    """torchvision's net and ours with one state dict, loaded without a map; without dropout, in training mode."""
    with torch.device("meta"):
        theirs = torchvision.models.GoogLeNet(1000, auxiliary, False, False, dropout=0.0, dropout_aux=0.0).train()
        ours = GoogLeNetTV(auxiliary=auxiliary, dropout=0.0, auxiliary_dropout=0.0).train()
    weights: dict[str, Tensor] = {}
    for key, value in theirs.state_dict().items():
        at_rest = torch.ones if "running_var" in key or (value.ndim == 1 and key.endswith("weight")) else torch.zeros
        he = (2 / max(1, value.shape[1:].numel())) ** 0.5
        weights[key] = torch.randn(value.shape) * he if value.ndim > 1 else at_rest(value.shape, dtype=value.dtype)
    for net in (theirs, ours):
        net.load_state_dict({key: value.clone() for key, value in weights.items()}, assign=True)
    return theirs, ours


def test_parity_with_torchvision() -> None:
    """Logits of all three heads, and every gradient of their weighted loss."""
    torch.manual_seed(0)
    theirs, ours = both(auxiliary=True)
    x, y = torch.randn(4, 3, 64, 64), torch.tensor([3, 7, 1, 0])
    logits, auxiliary = ours.with_auxiliary(x)
    expected, upper, lower = theirs(x)
    for one, other in zip((logits, *auxiliary), (expected, lower, upper), strict=True):
        assert relative(one, other) < 1e-4
        assert relative(one[0], one[1]) > 1e-2
    for outputs in ((logits, *auxiliary), (expected, lower, upper)):
        loss = sum(weight * F.cross_entropy(each, y) for weight, each in zip((1, 0.3, 0.3), outputs, strict=True))
        assert isinstance(loss, Tensor)
        loss.backward()
    other_gradients = gradients(theirs)
    assert gradients(ours).keys() == other_gradients.keys() == dict(ours.named_parameters()).keys()
    for key, gradient in gradients(ours).items():
        assert relative(gradient, other_gradients[key]) < 1e-4, key
    for key, value in ours.state_dict().items():  # the running means moved alike
        torch.testing.assert_close(value, theirs.state_dict()[key])


def test_parity_in_evaluation_and_without_heads() -> None:
    torch.manual_seed(0)
    theirs, ours = both(auxiliary=False)
    x = torch.randn(2, 3, 64, 64)
    assert relative(ours.eval()(x), theirs.eval()(x)) < 1e-4
