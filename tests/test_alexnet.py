"""AlexNet of 2012 against its paper, layer by layer, so that a change is noticed; torchvision's by parity."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from dl_zoo.models.alexnet import AlexNet
from dl_zoo.models.alexnet_tv import AlexNetTV


class Row(NamedTuple):
    """A layer as a table states it; None for what its kind does not have."""

    layer: str
    output: tuple[int, ...]
    kernel: int | None
    stride: int | None
    padding: int | None
    groups: int | None
    parameters: int


PAPER = [
    Row("conv1", (96, 55, 55), 11, 4, 0, 1, 34944),
    Row("norm1", (96, 55, 55), None, None, None, None, 0),
    Row("pool1", (96, 27, 27), 3, 2, 0, None, 0),
    Row("conv2", (256, 27, 27), 5, 1, 2, 2, 307456),
    Row("norm2", (256, 27, 27), None, None, None, None, 0),
    Row("pool2", (256, 13, 13), 3, 2, 0, None, 0),
    Row("conv3", (384, 13, 13), 3, 1, 1, 1, 885120),
    Row("conv4", (384, 13, 13), 3, 1, 1, 2, 663936),
    Row("conv5", (256, 13, 13), 3, 1, 1, 2, 442624),
    Row("pool5", (256, 6, 6), 3, 2, 0, None, 0),
    Row("fc6", (4096,), None, None, None, None, 37752832),
    Row("fc7", (4096,), None, None, None, None, 16781312),
    Row("fc8", (1000,), None, None, None, None, 4097000),
]
TORCHVISION = [
    Row("features.0", (64, 55, 55), 11, 4, 2, 1, 23296),
    Row("features.2", (64, 27, 27), 3, 2, 0, None, 0),
    Row("features.3", (192, 27, 27), 5, 1, 2, 1, 307392),
    Row("features.5", (192, 13, 13), 3, 2, 0, None, 0),
    Row("features.6", (384, 13, 13), 3, 1, 1, 1, 663936),
    Row("features.8", (256, 13, 13), 3, 1, 1, 1, 884992),
    Row("features.10", (256, 13, 13), 3, 1, 1, 1, 590080),
    Row("features.12", (256, 6, 6), 3, 2, 0, None, 0),
    Row("avgpool", (256, 6, 6), None, None, None, None, 0),
    Row("classifier.1", (4096,), None, None, None, None, 37752832),
    Row("classifier.4", (4096,), None, None, None, None, 16781312),
    Row("classifier.6", (1000,), None, None, None, None, 4097000),
]


def side(value: Any) -> int | None:
    """A kernel's, stride's or padding's side, from 2, (2, 2) or nothing; -1 where the sides differ."""
    sides = {value} if isinstance(value, int | None) else set(value)
    return sides.pop() if len(sides) == 1 else -1


def as_row(name: str, layer: nn.Module, output: Tensor) -> Row:
    kernel, stride, padding = (side(getattr(layer, key, None)) for key in ("kernel_size", "stride", "padding"))
    parameters = sum(p.numel() for p in layer.parameters())
    return Row(name, tuple(output.shape[1:]), kernel, stride, padding, getattr(layer, "groups", None), parameters)


def mismatches(net: nn.Module, rows: Sequence[Row], inputs: Tensor, call: str = "forward") -> list[str]:
    """What in the net differs from the table: order, rows, and parameters outside it. Runs on `meta`."""
    seen: list[Row] = []

    def hook(name: str) -> Callable[..., None]:
        return lambda layer, _, output: seen.append(as_row(name, layer, output))

    handles = [net.get_submodule(row.layer).register_forward_hook(hook(row.layer)) for row in rows]
    try:
        getattr(net, call)(inputs)
    except RuntimeError as error:  # shapes that do not fit
        return [str(error)]
    finally:
        for handle in handles:
            handle.remove()
    found = [f"{want} but {have}" for want, have in zip(rows, seen, strict=False) if want != have]
    total, stated = sum(p.numel() for p in net.parameters()), sum(row.parameters for row in rows)
    if len(seen) != len(rows) or total != stated:
        found.append(f"{len(seen)} of {len(rows)} layers ran; {total} parameters, {stated} in the table")
    return found


def paper_net(**arguments: Any) -> AlexNet:
    with torch.device("meta"):
        return AlexNet(**arguments)


def picture(size: int, device: str = "meta") -> Tensor:
    return torch.zeros(1, 3, size, size, device=device)


def test_table() -> None:
    assert mismatches(paper_net(), PAPER, picture(227)) == []
    assert sum(row.parameters for row in PAPER) == 60_965_224
    units = [row.output for row in PAPER if row.layer.startswith(("conv", "fc"))]
    assert sum(torch.Size(shape).numel() for shape in units) == 659_272  # "650,000 neurons" in the abstract


def test_torchvision_table() -> None:
    with torch.device("meta"):
        net = AlexNetTV()
    assert mismatches(net, TORCHVISION, picture(224)) == []
    assert sum(row.parameters for row in TORCHVISION) == 61_100_840


@pytest.mark.parametrize(
    ("layer", "changed"),
    [
        ("conv1", nn.Conv2d(3, 96, 11, stride=4, padding=2)),  # 224's padding: 56x56
        ("conv1", nn.Conv2d(3, 96, 11, stride=4, bias=False)),
        ("norm1", nn.MaxPool2d(3, 1, padding=1)),
        ("pool1", nn.MaxPool2d(2, 2)),
        ("pool2", nn.AvgPool2d(3, 2, padding=1)),
        ("conv2", nn.Conv2d(96, 256, 5, padding=2)),  # one group
        ("conv2", nn.Conv2d(96, 256, 3, padding=1, groups=2)),
        ("conv3", nn.Conv2d(256, 384, 3, padding=1, groups=2)),
        ("conv4", nn.Conv2d(384, 384, 3, padding=1, groups=4)),
        ("conv5", nn.Conv2d(384, 256, 3, padding=2, dilation=2, groups=2)),
        ("fc7", nn.Linear(4096, 4096, bias=False)),
        ("fc8", nn.Linear(4096, 1001)),
        ("extra", nn.Linear(1, 1)),
    ],
)
def test_a_changed_layer_is_noticed(layer: str, changed: nn.Module) -> None:
    net = paper_net()
    setattr(net, layer, changed.to("meta"))
    assert mismatches(net, PAPER, picture(227))


def test_one_group_connects_everything() -> None:
    assert sum(p.numel() for p in paper_net(groups=1).parameters()) == 62_378_344
    with pytest.raises(ValueError, match="groups=5"):
        AlexNet(width=8, groups=5)


def test_switches_leave_the_shapes() -> None:
    changed = {"pool1": 2, "pool2": 2, "pool5": 2}
    rows = [row._replace(kernel=changed.get(row.layer, row.kernel)) for row in PAPER]
    assert mismatches(paper_net(lrn=False, overlapping=False), rows, picture(227)) == []


def test_halves_see_only_their_own_half() -> None:
    """The second half of conv2's outputs does not depend on the first half of its inputs; conv3's does."""
    net = AlexNet(width=8, num_classes=10)
    for layer, own in ((net.conv2, True), (net.conv3, False), (net.conv4, True), (net.conv5, True)):
        x = torch.randn(1, layer.in_channels, 5, 5, requires_grad=True)
        layer(x)[:, layer.out_channels // 2 :].sum().backward()
        assert x.grad is not None
        assert bool(x.grad[:, : layer.in_channels // 2].any()) is not own


def test_response_normalisation_is_the_papers() -> None:
    """Section 3.3 written out: k = 2, n = 5, alpha = 1e-4, not divided by n, beta = 0.75; fewer maps at the ends."""
    norm = AlexNet(width=8, num_classes=10).norm1
    a = 50 * torch.rand(2, 9, 3, 3)  # large, or alpha would not show
    b = torch.empty_like(a)
    for i in range(9):
        neighbours = a[:, max(0, i - 2) : min(8, i + 2) + 1]
        b[:, i] = a[:, i] / (2 + 1e-4 * neighbours.square().sum(1)) ** 0.75
    torch.testing.assert_close(norm(a), b)
    divided = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)
    assert not torch.allclose(divided(a), b, rtol=0.01)


def test_initial_weights_are_those_of_section_5() -> None:
    torch.manual_seed(0)
    net = AlexNet(width=12, num_classes=10)
    for name, parameter in net.named_parameters():
        layer, kind = name.split(".")
        if kind == "weight":
            assert abs(parameter.std().item() / 0.01 - 1) < 0.1, name
            assert abs(parameter.mean().item()) < 0.001, name
        else:
            assert (parameter == (layer in ("conv2", "conv4", "conv5", "fc6", "fc7"))).all(), name


def test_dropout_follows_the_first_two_dense_layers() -> None:
    """At rate 1 nothing reaches fc7 and fc8 but their biases."""
    net = AlexNet(width=4, num_classes=10, dropout=1.0).train()
    seen: dict[str, Tensor] = {}
    for name in ("fc6", "fc7", "fc8"):
        net.get_submodule(name).register_forward_hook(lambda _, x, __, name=name: seen.__setitem__(name, x[0]))
    net(torch.randn(2, 3, 227, 227))
    assert seen["fc6"].any()
    assert not seen["fc7"].any()
    assert not seen["fc8"].any()


@pytest.mark.parametrize("make", [lambda n: AlexNet(3, n, width=4), lambda n: AlexNetTV(3, n, width=4)])
def test_heads_name_what_depends_on_the_classes(make: Callable[[int], Any]) -> None:
    five, seven = make(5), make(7)
    shapes = {key: value.shape for key, value in five.state_dict().items()}
    changed = {key.rpartition(".")[0] for key, value in seven.state_dict().items() if value.shape != shapes[key]}
    assert changed == set(five.heads)
    features = make(0).eval()(torch.randn(2, 3, 227, 227))
    assert features.shape == (2, five.get_submodule(five.heads[0]).in_features)


def test_smallest_picture() -> None:
    net = AlexNetTV(width=4, num_classes=10)
    assert net(picture(63, "cpu")).shape == (1, 10)
    with pytest.raises(RuntimeError):
        net(picture(62, "cpu"))


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {key: p.grad for key, p in net.named_parameters() if p.grad is not None}


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference as a part of the largest value."""
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def drawn(net: nn.Module) -> dict[str, Tensor]:
    """He's weights for a net on `meta`: cheaper than its own, and large enough for the logits to differ."""
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    return {key: torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5 for key, shape in shapes.items()}


def test_parity_with_torchvision() -> None:
    """The same state dict, loaded without a map, gives the same logits and gradients."""
    torch.manual_seed(0)
    with torch.device("meta"):
        theirs, ours = torchvision.models.alexnet(dropout=0.0).train(), AlexNetTV(dropout=0.0).train()
    weights = drawn(theirs)
    for net in (theirs, ours):
        net.load_state_dict(weights, assign=True)
    x, y = torch.randn(2, 3, 80, 80), torch.tensor([3, 7])
    logits = [net(x) for net in (ours, theirs)]
    assert relative(*logits) < 1e-4
    assert relative(*logits[0]) > 1e-2  # the two pictures differ, so that equal logits mean something
    for each in logits:
        F.cross_entropy(each, y).backward()
    other = gradients(theirs)
    assert gradients(ours).keys() == other.keys() == dict(ours.named_parameters()).keys()
    for key, gradient in gradients(ours).items():
        assert relative(gradient, other[key]) < 1e-4, key


def test_layers_are_torchvisions() -> None:
    """Dropout included: its rate and its place."""
    with torch.device("meta"):
        theirs, ours = torchvision.models.alexnet(), AlexNetTV()
    assert str(ours.features) == str(theirs.features)
    assert str(ours.classifier) == str(theirs.classifier)
