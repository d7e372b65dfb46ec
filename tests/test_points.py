"""Points that are drawn: from a ring or a grid of narrow Gaussians, and from one."""

import math

import pytest
import torch

from dl_zoo.compose import compose
from dl_zoo.data.gaussian import Gaussian
from dl_zoo.data.ring import Ring
from dl_zoo.errors import UserError
from dl_zoo.options import card
from dl_zoo.refusals import of_targets


def ring(**settings: object) -> Ring:
    data = Ring({}, **settings)
    data.setup()
    return data


def test_the_ring_has_eight_narrow_modes_on_a_circle() -> None:
    data = ring(train_items=8000)
    points, targets = data.splits["train"]
    assert points.shape == (8000, 2)
    assert points.dtype == torch.float32
    assert targets.dtype == torch.int64
    assert data.modes.shape == (8, 2)
    assert data.deviation == 0.02
    assert data.dims == {"features": 2, "num_classes": 8}
    assert torch.allclose(data.modes.norm(dim=1), torch.tensor(2.0))
    assert torch.allclose((data.modes - data.modes.roll(1, 0)).norm(dim=1), torch.tensor(4 * math.sin(math.pi / 8)))
    assert data.classes[:3] == ["(2.00, 0.00)", "(1.41, 1.41)", "(0.00, 2.00)"]
    assert targets.bincount().float().div(1000).sub(1).abs().max() < 0.12  # 4 deviations of a count
    away = points - data.modes[targets]
    assert away.mean(0).abs().max() < 4 * 0.02 / 8000**0.5
    assert away.std(0).div(0.02).sub(1).abs().max() < 0.03
    assert (torch.cdist(points, data.modes).argmin(1) == targets).all()


def test_the_points_do_not_depend_on_the_seed_and_differ_between_splits() -> None:
    one, other = ring(seed=0).splits, ring(seed=1).splits
    assert all(torch.equal(one[split][0], other[split][0]) for split in one)
    assert not torch.equal(one["val"][0], one["test"][0])


def test_a_grid_has_its_modes_in_a_square() -> None:
    data = ring(layout="grid", count=25, radius=4.0, deviation=0.05)
    steps = [-4.0, -2.0, 0.0, 2.0, 4.0]
    assert data.modes.tolist() == [[x, y] for x in steps for y in steps]


def test_the_gaussian_has_its_mean_and_deviation() -> None:
    data = Gaussian({}, features=3, mean=1.0, deviation=0.5, train_items=20_000)
    data.setup()
    points = data.splits["train"][0]
    assert points.shape == (20_000, 3)
    assert data.dims == {"features": 3}
    assert points.mean(0).sub(1).abs().max() < 4 * 0.5 / 20_000**0.5
    assert points.std(0).sub(0.5).abs().max() < 0.01


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"layout": "star"}, "data.layout=star: must be one of ring, grid"),
        ({"layout": "grid"}, "data.count=8: a grid has a square number of modes, such as 25"),
        ({"deviation": 0}, "data.radius=2.0, data.deviation=0: must be above 0"),
        ({"count": 0}, "data.count=0: must be at least 1"),
    ],
)
def test_wrong_rings_are_refused(settings: dict[str, object], line: str) -> None:
    with pytest.raises(UserError, match=line):
        Ring({}, **settings)
    with pytest.raises(UserError, match="must be above 0"):
        Gaussian({}, deviation=0)


def test_tasks_of_targets_do_not_take_data_that_have_none() -> None:
    said = list(of_targets("classification", card("classification", "task"), "gaussian", card("gaussian", "data")))
    assert said == ["task=classification needs a class for each item, and data=gaussian has items alone"]


def test_the_grid_is_the_ring_with_other_numbers() -> None:
    cfg = compose(["model=mlp", "data=grid"])
    assert cfg.data._target_ == "dl_zoo.data.ring.Ring"
    assert cfg.dims == {"features": 2, "num_classes": 25}
    assert (cfg.data.layout, cfg.data.radius, cfg.data.batch_size) == ("grid", 4.0, 200)
