"""VGG against the paper's table 1 and against torchvision."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import vgg as theirs

from dl_zoo.models.vgg import VGG, VGGCifar

# Table 1, columns A, B, D, E: a convolution a number, P where the pictures are halved.
TABLE_1 = {
    11: "64 P 128 P 256 256 P 512 512 P 512 512 P",
    13: "64 64 P 128 128 P 256 256 P 512 512 P 512 512 P",
    16: "64 64 P 128 128 P 256 256 256 P 512 512 512 P 512 512 512 P",
    19: "64 64 P 128 128 P 256 256 256 256 P 512 512 512 512 P 512 512 512 512 P",
}
COUNTS = {  # plain, with batch norm, CIFAR
    11: (132863336, 132868840, 9231114),
    13: (133047848, 133053736, 9416010),
    16: (138357544, 138365992, 14728266),
    19: (143667240, 143678248, 20040522),
}


def rows(features: nn.Sequential, size: int) -> list[tuple[object, ...]]:
    """What each module of a net on `meta` is, in the order of the pass, and the size that it leaves."""
    found: list[tuple[object, ...]] = []
    x = torch.empty(2, 3, size, size, device="meta")
    for layer in features:
        x = layer(x)
        numbers: tuple[object, ...] = ()
        if isinstance(layer, nn.Conv2d):
            numbers = (layer.kernel_size, layer.stride, layer.padding, layer.groups)
        elif isinstance(layer, nn.MaxPool2d):
            numbers = (layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
        count = sum(p.numel() for p in layer.parameters())
        found.append((type(layer).__name__, tuple(x.shape[1:]), numbers, count))
    return found


def expected(depth: int, size: int, batch_norm: bool) -> list[tuple[object, ...]]:
    made: list[tuple[object, ...]] = []
    inputs = 3
    for word in TABLE_1[depth].split():
        if word == "P":
            size //= 2
            made.append(("MaxPool2d", (inputs, size, size), (2, 2, 0, False), 0))
            continue
        outputs = int(word)
        shape = (outputs, size, size)
        made.append(("Conv2d", shape, ((3, 3), (1, 1), (1, 1), 1), (inputs * 9 + 1) * outputs))
        made += [("BatchNorm2d", shape, (), 2 * outputs)] * batch_norm
        made.append(("ReLU", shape, (), 0))
        inputs = outputs
    return made


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("depth", TABLE_1)
def test_table_1(depth: int) -> None:
    with torch.device("meta"):
        nets = (VGG(depth), VGG(depth, batch_norm=True), VGGCifar(depth))
    assert tuple(count(net) for net in nets) == COUNTS[depth]
    for net, batch_norm, size in zip(nets, (False, True, True), (224, 224, 32), strict=True):
        assert rows(net.features, size) == expected(depth, size, batch_norm)
    for net in nets[:2]:
        dense = [count(layer) for layer in net.classifier if isinstance(layer, nn.Linear)]
        assert dense == [102764544, 16781312, 4097000]
        assert [layer.p for layer in net.classifier if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (0, nn.Conv2d(3, 64, 5, padding=2)),
        (3, nn.Conv2d(64, 128, 3, padding=1, groups=2)),
        (3, nn.Conv2d(64, 128, 3, padding=1, bias=False)),
        (2, nn.MaxPool2d(3, 2, padding=1)),
        (20, nn.Identity()),
    ],
)
def test_a_changed_layer_is_noticed(place: int, changed: nn.Module) -> None:
    with torch.device("meta"):
        features = VGG(11).features
    assert rows(features, 224) == expected(11, 224, False)
    features[place] = changed.to("meta")
    assert rows(features, 224) != expected(11, 224, False)


def test_two_3x3_see_5x5_and_three_see_7x7() -> None:
    """Section 2.3, by the gradient of one output; and it costs fewer weights."""
    for number, side in ((1, 3), (2, 5), (3, 7)):
        stack = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(number)))
        with torch.no_grad():
            for weight in stack.parameters():
                weight.abs_()
        x = torch.randn(1, 4, 11, 11, requires_grad=True)
        stack(x)[0, 0, 5, 5].backward()
        seen = x.grad[0].ne(0).any(0).nonzero()
        assert (seen.amin(0).tolist(), seen.amax(0).tolist()) == ([5 - side // 2] * 2, [5 + side // 2] * 2)
        assert count(stack) == number * 9 * 16 < (side**2 * 16 if number > 1 else 145)


def test_wrong_depth_and_initial_weights() -> None:
    for build in (VGG, VGGCifar):
        with pytest.raises(ValueError, match="depth=12 is not one of 11, 13, 16, 19"):
            build(12)
    torch.manual_seed(0)
    net = VGG(11, width=16, num_classes=100)
    assert net.features[6].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert net.classifier[3].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not any(p.any() for name, p in net.named_parameters() if name.endswith("bias"))


# ---- torchvision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", TABLE_1)
@pytest.mark.parametrize("suffix", ["", "_bn"])
def test_state_dict_is_torchvisions(depth: int, suffix: str) -> None:
    with torch.device("meta"):
        ours, other = VGG(depth, batch_norm=bool(suffix)), getattr(torchvision.models, f"vgg{depth}{suffix}")()
    one, two = ours.state_dict(), other.state_dict()
    assert [(key, value.shape) for key, value in one.items()] == [(key, value.shape) for key, value in two.items()]


def narrow(depth: int, batch_norm: bool, width: int) -> nn.Module:
    """torchvision's VGG with all widths in proportion: its own layers and pass, other sizes."""
    plan = [
        size if size == "M" else size * width // 64 for size in theirs.cfgs[{11: "A", 13: "B", 16: "D", 19: "E"}[depth]]
    ]
    net = theirs.VGG(theirs.make_layers(plan, batch_norm), num_classes=10, init_weights=False)
    sizes = [8 * width * 49, 64 * width, 64 * width, 10]
    for place, (inputs, outputs) in zip((0, 3, 6), pairwise(sizes), strict=True):
        net.classifier[place] = nn.Linear(inputs, outputs)
    return net


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def assert_same_pass(ours: nn.Module, other: nn.Module, size: int, classes: int) -> None:
    """Logits and gradients, in evaluation and, without dropout, in training."""
    ours.load_state_dict(other.state_dict())
    for net in (ours, other):
        for layer in net.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    x, y = torch.randn(2, 3, size, size), torch.randint(0, classes, (2,))
    for training in (False, True):
        logits = []
        for net in (ours, other):
            net.zero_grad()
            logits.append(net.train(training)(x))
            F.cross_entropy(logits[-1], y).backward()
        assert relative(*logits) < 1e-4
        for (key, a), (name, b) in zip(ours.named_parameters(), other.named_parameters(), strict=True):
            assert key == name
            assert relative(a.grad, b.grad) < 1e-4, key


@pytest.mark.parametrize("depth", TABLE_1)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_logits_and_gradients_are_torchvisions(depth: int, batch_norm: bool) -> None:
    """At an eighth of the width; 96 pixels leave 3x3, which adaptive pooling brings to 7x7."""
    torch.manual_seed(0)
    other = narrow(depth, batch_norm, 8)
    for layer in other.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.1)
            nn.init.normal_(layer.running_mean, 0, 0.1)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    assert_same_pass(VGG(depth, num_classes=10, width=8, batch_norm=batch_norm), copy.deepcopy(other), 96, 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "vgg16"])
def test_logits_and_gradients_are_torchvisions_at_full_width(name: str) -> None:
    torch.manual_seed(0)
    other = getattr(torchvision.models, name)()
    assert_same_pass(VGG(int(name[3:5]), batch_norm="bn" in name), other, 32, 1000)
