"""Probes of convolutional nets, on layers where the answer is known."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo import create_model
from dl_zoo.errors import UserError
from dl_zoo.probes.convolution_identities import (
    convolution_identities,
    drawn,
    im2col_product,
    product_difference,
    shift_difference,
)
from dl_zoo.probes.costs import costs
from dl_zoo.probes.generalization import generalization
from dl_zoo.probes.gradient_flow import gradient_flow
from dl_zoo.probes.nll_gap import nll_gap
from dl_zoo.probes.receptive_field import receptive_field
from dl_zoo.probes.response_std import response_std
from dl_zoo.probes.shifted import moved, shifted
from dl_zoo.tasks.classification import Classification


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Pictures:
    """Random pictures, two batches a split; `classes` gives a picture its class."""

    def __init__(self, shape: tuple[int, ...] = (3, 16, 16), classes: Any = None, items: int = 12):
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.rand(items, *shape, generator=generator)
        self.targets = torch.randint(5, (items,), generator=generator) if classes is None else classes(self.inputs)

    def loader(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.inputs.split(8), self.targets.split(8), strict=True)


def holding(*layers: nn.Module) -> Classification:
    net = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
    return Classification(net, torch.optim.SGD, num_classes=5)


def left_alone(probe: Any, task: Classification, data: Any) -> None:
    before = {key: value.clone() for key, value in task.net.state_dict().items()}
    net = task.net
    probe(task.eval(), data)
    assert task.net is net
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


# ---- convolution_identities


def test_the_draws_cover_what_they_should() -> None:
    draws = [drawn() for _ in range(200)]
    for key, values in {
        "kernel": range(1, 6),
        "stride": (1, 2, 3),
        "dilation": (1, 2, 3),
        "groups": range(1, 5),
    }.items():
        assert {each[key] for each in draws} == {*values}
    assert all(product_difference(each) == 0 for each in draws)
    assert sum(product_difference(each, mirrored=True) > 0 for each in draws) > 100  # not where the kernel is 1x1


def test_a_product_by_hand() -> None:
    setting = {"kernel": 2, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    x = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    found = im2col_product(x, torch.tensor([[[[1.0, 10], [100, 1000]]]]), setting)
    assert found.tolist() == [[[[5421, 6532], [8754, 9865]]]]


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_only_circular_padding_commutes_with_shifts(kernel: int) -> None:
    layer, item = nn.Conv2d(2, 3, kernel, dilation=2), torch.randint(256, (1, 2, 14, 14)).double()
    assert shift_difference(layer, item, "circular") == 0
    assert all(shift_difference(layer, item, padding) > 0 for padding in ("zeros", "reflect", "replicate"))


def test_counts_of_a_first_layer() -> None:
    task = holding(create_model("lenet5"))
    found = convolution_identities(task, Pictures((1, 32, 32)), settings=2, image_size=28)
    assert found["shared"] == 156
    assert found["local"] == 24 * 24 * 6 * (25 + 1)
    assert found["dense"] == 24 * 24 * 6 * (28 * 28 + 1)
    assert found["product_difference"] == found["shift_difference"] == 0
    left_alone(convolution_identities, task, Pictures((1, 32, 32)))


def test_a_net_without_a_convolution_has_none_to_ask() -> None:
    with pytest.raises(UserError, match="no convolution"):
        convolution_identities(holding(nn.Linear(4, 5)), Pictures())
    with pytest.raises(UserError, match="padding=round"):
        convolution_identities(holding(nn.Conv2d(3, 5, 3)), Pictures(), padding="round")


# ---- shifted


def test_each_picture_moves_by_its_own_draw() -> None:
    images, by = torch.rand(5, 2, 6, 6), torch.tensor([[0, 1, -2, 0, 3], [0, 0, 2, -1, -3]])
    out = moved(images, by)
    assert torch.equal(out[0], images[0])
    assert torch.equal(out[1][:, 1:], images[1][:, :-1])
    assert torch.equal(out[2][:, :-2, 2:], images[2][:, 2:, :-2])
    assert torch.equal(out[3][:, :, :-1], images[3][:, :, 1:])
    assert torch.allclose(out[4][:, :3].amax((1, 2)), images.amin((0, 2, 3)))  # black moves in


def brightest_column(images: Tensor) -> Tensor:
    return (images.mean((1, 2)).argmax(1) * 5) // images.shape[-1]


def test_a_dense_net_minds_a_move_and_a_global_pool_does_not() -> None:
    """One counts which fifth of the picture is brightest, the other how bright the brightest pixel is."""

    class ByPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.one_hot(brightest_column(x), 5).float()

    class ByValue(ByPlace):
        def forward(self, x: Tensor) -> Tensor:
            bright = x.amax((1, 2, 3))[:, None]
            return torch.cat([1 - bright, bright, bright.new_full((len(x), 3), -1)], 1)

    spot, places = torch.zeros(200, 1, 20, 20), torch.arange(200) % 5
    spot[torch.arange(200), 0, 10, 4 * places + 1] = 1.0
    data = Pictures()
    data.inputs, data.targets = spot, places
    found = shifted(holding(ByPlace()), data, pixels=3)
    assert found["shifted/acc"] == 1
    assert found["shifted/drop"] == pytest.approx(found["shifted/acc"] - found["shifted/acc_moved"])
    assert 0.2 < found["shifted/drop"] < 0.7  # of the moves from -3 to 3, three in seven leave the fifth
    assert found["shifted/log_drop"] == pytest.approx(math.log10(found["shifted/drop"]))
    assert "shifted/change_pooled" not in found
    data.inputs, data.targets = (
        spot[2:3].expand(200, -1, -1, -1),
        torch.ones(200, dtype=torch.long),
    )  # far from the edge
    assert shifted(holding(ByValue()), data, pixels=3)["shifted/log_drop"] == -9


def test_a_pool_as_wide_as_the_picture_hardly_changes() -> None:
    task = holding(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3, 5))
    found = shifted(task, Pictures())
    assert found["shifted/change_pooled"] < 0.1 < found["shifted/change_strided"]
    one = holding(nn.MaxPool2d(1, 2), nn.Flatten(), nn.Linear(3 * 64, 5))  # a window of one pixel pools nothing
    found = shifted(one, Pictures())
    assert found["shifted/change_pooled"] == found["shifted/change_strided"] > 0.1
    left_alone(shifted, one, Pictures())


def test_what_is_no_picture_cannot_be_moved() -> None:
    with pytest.raises(UserError, match="pictures"):
        shifted(holding(nn.Linear(7, 5)), Pictures((7,)))
    with pytest.raises(UserError, match="pixels=0"):
        shifted(holding(nn.Conv2d(3, 5, 3)), Pictures(), pixels=0)


# ---- receptive_field


def same(kernel: int, **arguments: Any) -> nn.Module:
    return nn.Conv2d(3, 3, kernel, padding=kernel // 2 * arguments.get("dilation", 1), **arguments)


def test_three_by_three_stacks_see_five_and_seven() -> None:
    task = holding(same(3), nn.ReLU(inplace=True), same(3), nn.ReLU(inplace=True), same(3))
    found = receptive_field(task, Pictures())
    assert [found[f"receptive_field/{name}"] for name in "024"] == [3, 5, 7]
    assert [found[f"receptive_field/{name}_pixels"] for name in "024"] == [9, 25, 49]
    since = receptive_field(task, Pictures(), layers=["4"], since="2")
    assert since == {"receptive_field/4": 5, "receptive_field/4_pixels": 25}
    left_alone(receptive_field, task, Pictures())


def test_strides_pools_and_holes_are_seen() -> None:
    task = holding(same(3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), same(3), nn.Conv2d(3, 3, 3, 2, 1))
    found = receptive_field(task, Pictures((3, 32, 32)))
    assert [found[f"receptive_field/{name}"] for name in "045"] == [3, 8, 12]  # 3; + 1 + 2 * 2; + 2 * 2
    hollow = receptive_field(holding(same(3, dilation=2), nn.ReLU()), Pictures())
    assert hollow == {"receptive_field/0": 5, "receptive_field/0_pixels": 9}


def test_a_layer_that_is_not_there_is_told() -> None:
    task = holding(same(3), same(3))
    with pytest.raises(UserError, match="no module 7"):
        receptive_field(task, Pictures(), layers=["7"])
    with pytest.raises(UserError, match="sees nothing"):
        receptive_field(task, Pictures(), layers=["0"], since="1")


# ---- costs


def test_costs_of_known_layers() -> None:
    block = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
    task = holding(block, nn.ReLU(), nn.Conv2d(8, 4, 1, stride=2, bias=False), nn.Flatten(), nn.Linear(4 * 64, 5))
    found = costs(task, Pictures(), modules=["0", "2", "4"])
    conv1, conv2, fc = 8 * 27 * 16 * 16, 4 * 8 * 8 * 8, 5 * 256
    assert found["costs/macs"] == conv1 + conv2 + fc
    assert (found["costs/macs/Conv2d"], found["costs/macs/Linear"]) == (conv1 + conv2, fc)
    assert found["costs/parameters"] == 8 * 28 + 16 + 32 + 5 * 257
    assert found["costs/parameters/BatchNorm2d"] == 16
    keys = ("parameters", "weights", "macs", "channels", "size")
    assert [found[f"costs/0/{key}"] for key in keys] == [240, 216, conv1, 8, 16]
    assert [found[f"costs/2/{key}"] for key in keys] == [32, 32, conv2, 4, 8]
    assert [found[f"costs/4/{key}"] for key in keys] == [1285, 1280, fc, 5, 1]
    left_alone(costs, task, Pictures())
    task.net[0][0].bias.requires_grad = False  # type: ignore[index]
    assert costs(task, Pictures())["costs/parameters"] == found["costs/parameters"] - 8


def test_costs_names_what_it_does_not_find() -> None:
    with pytest.raises(UserError, match="no module stem"):
        costs(holding(same(3), same(3)), Pictures(), modules=["stem"])


def test_two_small_kernels_cost_less_than_a_large_one() -> None:
    found = [
        costs(holding(create_model(name, width=64)), Pictures((3, 8, 8)), modules=["stages.0"])[
            "costs/stages.0/weights"
        ]
        for name in ("conv_3x3pair", "conv_5x5")
    ]
    assert found == [18 * 64**2, 25 * 64**2]


# ---- response_std, gradient_flow


def test_responses_are_those_of_norms_after_three_by_three() -> None:
    first, norm, wide, after = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 5), nn.BatchNorm2d(4)
    head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 100, 5))
    task, data = holding(first, norm, nn.ReLU(), wide, after, head), Pictures()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2, 3, 4]))
        expected = norm.eval()(first(data.inputs)).std(correction=0)
    found = response_std(task, data)
    assert found == {"response_std/01": pytest.approx(float(expected)), "response_std_mean": found["response_std/01"]}
    left_alone(response_std, task, data)
    with pytest.raises(UserError, match="no batch norm"):
        response_std(holding(same(3)), data)


def test_gradients_of_a_plain_net_with_batch_norm_do_not_vanish() -> None:
    data = Pictures((3, 8, 8))
    found = gradient_flow(holding(create_model("plain56", width=4, num_classes=5)), data)
    assert len([key for key in found if key.startswith("gradient/")]) == 55 * 2  # convolutions and their norms
    assert 0 < found["gradient_ratio"] < 10


# ---- generalization


def test_the_gap_is_that_of_evaluation() -> None:
    class Remembering(nn.Module):
        """Right on the first 8 pictures; where it trains, on none."""

        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            seen = torch.equal(x, data.inputs[:8]) and not self.training
            return F.one_hot(data.targets[:8] if seen else (data.targets[-len(x) :] + 1) % 5, 5).float()

    data = Pictures()
    found = generalization(holding(Remembering()).eval(), data, items=8)
    assert found["generalization/train_acc"] == 1
    assert found["generalization/val_acc"] == pytest.approx(8 / 12)
    assert found["generalization/gap"] == pytest.approx(4 / 12)


def test_the_gap_in_nats_is_that_of_evaluation() -> None:
    """Of each first picture of a batch the net is sure and right; of the others it knows nothing."""

    class FirstOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            logits = torch.zeros(len(x), 5)
            first = data.targets[(data.inputs == x[0]).flatten(1).all(1)][0]
            logits[0, first] = 100.0
            return logits

    data = Pictures()
    found = nll_gap(holding(FirstOnly()).eval(), data, items=8)
    sizes = [len(targets) for _, targets in data.loader("val")]
    val = math.log(5) * (sum(sizes) - len(sizes)) / sum(sizes)
    assert found == pytest.approx(
        {"nll_gap/train": math.log(5) * 7 / 8, "nll_gap/val": val, "nll_gap/gap": val - math.log(5) * 7 / 8}
    )
