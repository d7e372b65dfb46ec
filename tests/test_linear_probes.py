"""The probes `linear_probes` and `size`, on nets whose answer is known beforehand."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dl_zoo import create_model
from dl_zoo.errors import UserError
from dl_zoo.probes import size as sizes
from dl_zoo.probes.linear_probes import features, linear_probes
from dl_zoo.probes.size import connections, size

Splits = dict[str, tuple[Tensor, Tensor]]


def parts(net: nn.Module, splits: Splits, asked: list[str] | None = None) -> tuple[Any, Any]:
    """Task and data as a probe sees them; `asked` collects the splits that were read."""

    def loader(split: str) -> list[tuple[Tensor, Tensor]]:
        if asked is not None:
            asked.append(split)
        inputs, targets = splits[split]
        return list(zip(inputs.split(16), targets.split(16), strict=True))

    return SimpleNamespace(net=net), SimpleNamespace(loader=loader)


def corners(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points about (+-1, +-1), class 1 where the signs differ: no straight line parts the classes."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(count // 4, 1)
    return signs + 0.1 * torch.randn(signs.shape, generator=generator), (signs.prod(1) < 0).long()


def halves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Classes by the sign of the first coordinate: one line parts them."""
    inputs, _ = corners(count, seed)
    return inputs, (inputs[:, 0] > 0).long()


def linear(weight: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight.data = torch.tensor(weight)
    return layer


IDENTITY = [[1.0, 0.0], [0.0, 1.0]]


def probed(net: nn.Module, points: Callable[[int, int], tuple[Tensor, Tensor]], **numbers: Any) -> dict[str, float]:
    return linear_probes(*parts(net, {"train": points(80, 0), "val": points(80, 1)}), **numbers)


def test_layers_that_change_nothing_know_what_the_input_does() -> None:
    net = nn.Sequential(linear(IDENTITY), linear(IDENTITY))
    errors = probed(net, corners)
    assert list(errors) == ["linear_error/0_input", "linear_error/1_0", "linear_error/2_1"]
    assert len(set(errors.values())) == 1
    assert 0.25 <= errors["linear_error/0_input"] <= 0.75  # a line has 3 of the 4 corners right at best
    assert set(probed(net, halves).values()) == {0.0}


def test_a_layer_that_erases_leaves_chance_behind_it() -> None:
    net = nn.Sequential(linear(IDENTITY), linear([[0.0, 0.0], [0.0, 0.0]]), linear(IDENTITY))
    assert list(probed(net, halves).values()) == [0.0, 0.0, 0.5, 0.5]


def test_a_layer_that_separates_is_read_after_its_nonlinearity() -> None:
    """|a + b| is 2 where the signs agree and 0 elsewhere; before the rectifier it is still linear in a and b."""
    net = nn.Sequential(linear([[1.0, 1.0], [-1.0, -1.0]]), nn.ReLU(), linear(IDENTITY))
    before, after, output = probed(net, corners).values()
    assert before >= 0.25
    assert (after, output) == (0.0, 0.0)


def test_the_scale_of_a_layer_does_not_matter() -> None:
    small, large = (probed(nn.Sequential(linear([[s, 0.0], [0.0, s]])), corners) for s in (2.0**-10, 2.0**10))
    assert small == large


def test_probes_fit_on_training_items_and_are_scored_on_validation() -> None:
    inputs, classes = halves(80, 0)
    asked: list[str] = []
    task, data = parts(
        nn.Sequential(linear(IDENTITY)), {"train": (inputs, classes), "val": (inputs, 1 - classes)}, asked
    )
    assert set(linear_probes(task, data).values()) == {1.0}
    assert sorted(asked) == ["train", "val"]


def test_only_so_many_items_are_read() -> None:
    inputs, classes = halves(80, 0)
    task, data = parts(nn.Sequential(linear(IDENTITY)), {"train": (inputs, classes)})
    rows, targets = features(task.net, data.loader("train"), 20)
    assert torch.equal(torch.from_numpy(rows["input"]), inputs[:20])
    assert targets.tolist() == classes[:20].tolist()


def test_layers_can_be_picked_and_keep_their_place() -> None:
    net = nn.Sequential(linear(IDENTITY), nn.ReLU(), linear(IDENTITY), linear(IDENTITY))
    assert list(probed(net, halves, layers=["2", "input"])) == ["linear_error/0_input", "linear_error/2_2"]
    with pytest.raises(UserError, match="there is no 1; there are input, 0, 2, 3"):
        probed(net, halves, layers=["1"])


def test_names_sort_by_depth() -> None:
    names = list(probed(nn.Sequential(*(linear(IDENTITY) for _ in range(10))), halves))
    assert names[0] == "linear_error/00_input"
    assert names == sorted(names)


def test_features_are_those_that_a_layer_read() -> None:
    """Not what became of them: the second layer's input is changed in place after it."""

    class Changes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = linear(IDENTITY), linear(IDENTITY)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            return self.second(h) + h.zero_()

    assert set(probed(Changes(), halves).values()) == {0.0}


def test_probes_leave_net_and_random_states_alone() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 2))
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = probed(net, halves)
    assert probed(net, halves) == first
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in net.modules())


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("lenet5", {"input": 1024, "c1": 1176, "c3": 400, "c5": 120, "f6": 84, "output": 10}),
        (
            "lenet5_1998",
            {"input": 1024, "c1": 4704, "s2": 1176, "c3": 1600, "s4": 400, "c5": 120, "f6": 84, "output": 10},
        ),
    ],
)
def test_what_is_read_of_lenet(name: str, widths: dict[str, int]) -> None:
    torch.manual_seed(0)
    rows, _ = features(create_model(name), [(torch.randn(4, 1, 32, 32), torch.zeros(4))], None)
    assert {layer: seen.shape[1] for layer, seen in rows.items()} == widths
    inner = [seen for layer, seen in rows.items() if layer not in ("input", "output")]
    if name == "lenet5":
        assert all((seen >= 0).all() for seen in inner)  # rectified
    else:
        assert all((abs(seen) <= 1.7159).all() for seen in inner)  # squashed


def counted(net: nn.Module, item: Tensor) -> dict[str, float]:
    return size(*parts(net, {"val": (item, torch.zeros(len(item)))}))


@pytest.mark.parametrize(
    ("net", "shape", "parameters", "joined"),
    [
        (nn.Linear(3, 4), (3,), 16, 16),
        (nn.Linear(3, 4, bias=False), (3,), 12, 12),
        (nn.Conv2d(1, 2, 3), (1, 5, 5), 20, 9 * 20),  # at 3 x 3 positions
        (nn.Conv2d(1, 1, 3, padding=1), (1, 4, 4), 10, 10**2 + 16),  # 2 + 3 + 3 + 2 taps a row lie inside
        (nn.Conv2d(4, 4, 1, groups=2), (4, 2, 2), 12, 4 * 12),
        (nn.BatchNorm2d(3), (3, 2, 2), 6, 2 * 12),  # each unit: its input and a bias
        (nn.Sequential(nn.Conv2d(1, 1, 2), nn.ReLU(), nn.MaxPool2d(2)), (1, 3, 3), 5, 4 * 5),  # pooling learns nothing
    ],
)
def test_sizes_counted_by_hand(net: nn.Module, shape: tuple[int, ...], parameters: int, joined: int) -> None:
    found = counted(net, torch.zeros(5, *shape))
    assert found == {"parameters": parameters, "connections": joined}


def test_lenet_has_the_connections_that_the_paper_prints() -> None:
    """Section II-B layer by layer; at zero weights too, since a connection is there whatever its weight."""
    net = create_model("lenet5_1998")
    nn.init.zeros_(net.c3.weight)  # type: ignore[union-attr, arg-type]
    item = torch.zeros(1, 1, 32, 32)
    by_layer = {"c1": 122304, "s2": 5880, "c3": 151600, "s4": 2000, "c5": 48120, "f6": 10164, "output": 840}
    assert connections(net, item) == by_layer
    assert counted(net, item) == {"parameters": 60_000, "connections": 340_908}


def test_a_layer_used_twice_connects_twice() -> None:
    layer = nn.Linear(3, 3)
    assert counted(nn.Sequential(layer, layer), torch.zeros(2, 3)) == {"parameters": 12, "connections": 24}


def test_what_is_frozen_is_no_parameter_that_trains() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[0].bias.requires_grad = False
    assert counted(net, torch.zeros(1, 2)) == {"parameters": 10, "connections": 12}


def test_connections_that_cannot_be_counted_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(nn.Embedding(5, 2), torch.zeros(1, 3, dtype=torch.long)) == {"parameters": 10}
    monkeypatch.setattr(sizes, "LARGEST", 11)
    assert counted(nn.Linear(3, 4), torch.zeros(1, 3)) == {"parameters": 16}


def test_size_leaves_net_and_random_state_alone() -> None:
    net = create_model("lenet5")
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    counted(net, torch.zeros(1, 1, 32, 32))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert not any(layer._forward_hooks for layer in net.modules())
