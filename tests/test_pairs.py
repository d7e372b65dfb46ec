"""Batches of P classes with K items each, pairs and triplets, and a distance asked of classes that were not seen."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dl_zoo.data import mnist
from dl_zoo.data.class_batches import ClassBatches, pairs, triplets
from dl_zoo.data.memory import MemoryLoader
from dl_zoo.data.unseen_digits import UnseenDigits
from dl_zoo.errors import UserError
from dl_zoo.probes.verification import verification

TARGETS = torch.tensor([0] * 23 + [1] * 9 + [2] * 30 + [4] * 10 + [5])  # class 5 has a single item


def batches(batch_size: int = 12, each: int = 4, seed: int = 0) -> ClassBatches:
    inputs = torch.arange(len(TARGETS)).float()[:, None]  # which item it is
    loader = MemoryLoader(inputs, TARGETS, batch_size=batch_size, shuffle=True, seed=seed)
    return ClassBatches.of(loader, each)


def seen(loader: Any) -> list[list[float]]:
    return [inputs.flatten().tolist() for inputs, _ in loader]


def test_every_batch_has_so_many_classes_with_so_many_different_items() -> None:
    loader = batches()
    assert len(loader) == len(TARGETS) // 12 == 6
    for _ in range(3):
        found = list(loader)
        assert len(found) == 6
        for inputs, targets in found:
            assert torch.equal(TARGETS[inputs.long().flatten()], targets)
            assert sorted(targets.bincount()[targets.unique()].tolist()) == [4, 4, 4]
            assert len(inputs.unique()) == 12


def test_an_order_is_a_function_of_seed_and_epoch() -> None:
    one, same, other = batches(), batches(), batches(seed=1)
    assert seen(one) == seen(same) != seen(other)
    assert seen(one) == seen(same) != seen(batches())  # the second epoch


def test_a_stopped_pass_goes_on_exactly() -> None:
    whole = batches()
    expected = [seen(whole), seen(whole)]
    stopped = batches()
    seen(stopped)
    passing = iter(stopped)
    first = [next(passing)[0].flatten().tolist() for _ in range(2)]
    resumed = batches()
    resumed.load_state_dict(stopped.state_dict())
    assert first + seen(resumed) == expected[1]


@pytest.mark.parametrize(("batch_size", "each"), [(12, 5), (12, 1), (24, 4), (4, 4), (62, 31)])
def test_batches_that_cannot_be_had(batch_size: int, each: int) -> None:
    with pytest.raises(UserError, match="items_per_class"):
        batches(batch_size, each)


def test_half_of_the_pairs_are_equal_and_none_is_an_item_with_itself() -> None:
    first, second = pairs(TARGETS, 2001)
    assert int((TARGETS[first] == TARGETS[second]).sum()) == 1000
    assert (TARGETS[first] == TARGETS[second])[:1000].all()
    assert not (first == second).any()
    assert set(first[1000:].tolist()) == set(second[:1000].tolist()) | {len(TARGETS) - 1} == set(range(len(TARGETS)))


def test_triplets_are_two_of_a_class_and_one_of_another() -> None:
    anchor, equal, other = triplets(TARGETS, 2000, seed=3)
    assert (TARGETS[anchor] == TARGETS[equal]).all()
    assert not (anchor == equal).any()
    assert not (TARGETS[anchor] == TARGETS[other]).any()
    assert set(other.tolist()) == set(range(len(TARGETS)))


def test_pairs_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="no class has two"):
        pairs(torch.arange(4), 4)
    with pytest.raises(ValueError, match="only one class"):
        triplets(torch.zeros(4, dtype=torch.long), 4)


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The dataset, over made-up pictures."""
    targets = torch.arange(200) % 10
    split = torch.randint(256, (200, 1, 28, 28), dtype=torch.uint8), targets
    monkeypatch.setattr(mnist.MNIST, "read", lambda self: dict.fromkeys(("train", "val", "test"), split))
    return partial(UnseenDigits, {"channels": 1, "image_size": 28, "features": 784, "num_classes": 10})


def test_the_test_set_has_the_classes_that_training_has_not(digits: Any) -> None:
    data = digits(batch_size=56)
    data.trainer = None
    data.setup()
    held = {name: set(targets.tolist()) for name, (_, targets) in data.splits.items()}
    assert held == {"train": set(range(7)), "val": set(range(7)), "test": {7, 8, 9}}
    assert data.sizes == {"train": 140, "val": 140, "test": 60}
    assert data.dims["num_classes"] == 10
    targets = next(iter(data.train_dataloader()))[1]
    assert targets.bincount().tolist() == [8] * 7
    plain = digits(batch_size=56, items_per_class=None)
    plain.trainer = None
    assert not isinstance(plain.train_dataloader(), ClassBatches)


@pytest.mark.parametrize("wrong", [{"unseen": [7]}, {"unseen": [7, 7]}, {"unseen": [1, 12]}, {"labels_per_class": 5}])
def test_digits_that_cannot_be_left_out(digits: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"data\."):
        digits(**wrong)


def test_verification_tells_a_net_that_knows_the_class_from_pixels_that_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(300) % 3
    noise = torch.randn(300, 1, 4, 4, generator=generator)
    inputs = torch.cat([noise, targets[:, None, None, None].expand(300, 1, 4, 1) / 10.0], dim=3)  # hardly visible

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x[:, 0, :1, -1]

    data = SimpleNamespace(loader=lambda split: [(inputs[:150], targets[:150]), (inputs[150:], targets[150:])])
    task: Any = SimpleNamespace(net=Reader())
    found = verification(task, data, pairs=pairs, count=2000)
    assert found["verification/net"] == 1.0
    assert 0.4 < found["verification/pixels"] < 0.6
    with pytest.raises(UserError, match="count=1"):
        verification(task, data, pairs=pairs, count=1)
