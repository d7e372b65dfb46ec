"""What the task does beyond one loss of one output: auxiliary classifiers, several views of an item, five guesses."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.tasks import losses
from dl_zoo.tasks.classification import Classification


class Branched(nn.Module):
    """A net with two auxiliary classifiers; it counts how often they are asked."""

    def __init__(self, classes: int = 3):
        super().__init__()
        self.body, self.head = nn.Linear(4, 5), nn.Linear(5, classes)
        self.low, self.high = nn.Linear(4, classes), nn.Linear(5, classes)
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def with_auxiliary(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.asked += 1
        return self(x), (self.low(x), self.high(self.body(x)))


def task(net: nn.Module | None = None, classes: int = 3, **arguments: Any) -> Classification:
    optimizer: Any = None
    return Classification(net or nn.Identity(), optimizer, num_classes=classes, **arguments)


def batch(items: int = 6, classes: int = 3, features: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(items, features, generator=generator), torch.arange(items) % classes


# ---- auxiliary classifiers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_auxiliary_losses_are_added_in_training(weight: float) -> None:
    net, (x, y) = Branched(), batch()
    measured = task(net, auxiliary_weight=weight).train().measure((x, y))
    parts = [F.cross_entropy(outputs, y) for outputs in (net(x), net.low(x), net.high(net.body(x)))]
    torch.testing.assert_close(measured.loss, parts[0] + weight * (parts[1] + parts[2]))
    torch.testing.assert_close(measured.sums["loss"], 6 * measured.loss.detach())
    measured.loss.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_auxiliary_losses_know_smoothing_and_mixed_targets() -> None:
    net, (x, y) = Branched(), batch()
    shares = F.one_hot(y, 3).float().roll(1, 0).lerp(F.one_hot(y, 3).float(), 0.7)
    measured = task(net, loss="mse", label_smoothing=0.1).train().measure((x, shares))
    parts = [losses.pointwise("mse", o, shares, 0.1) for o in (net(x), net.low(x), net.high(net.body(x)))]
    torch.testing.assert_close(measured.loss, parts[0] + 0.3 * (parts[1] + parts[2]))


def test_evaluation_and_weight_0_do_not_ask_the_auxiliary_classifiers() -> None:
    net, (x, y) = Branched(), batch()
    for measured in (
        task(net).eval().measure((x, y)),
        task(net, auxiliary_weight=0).train().measure((x, y)),
    ):
        assert measured.loss == F.cross_entropy(net(x), y)
    assert net.asked == 0


@pytest.mark.parametrize("auxiliary_weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_told(auxiliary_weight: float) -> None:
    with pytest.raises(UserError, match=r"task\.auxiliary_weight="):
        task(auxiliary_weight=auxiliary_weight)


def test_the_weight_is_of_the_paper_and_on_the_command_line() -> None:
    assert compose(["task.auxiliary_weight=0.5"]).task.auxiliary_weight == 0.5
    assert compose().task.auxiliary_weight == 0.3


# ---- views -----------------------------------------------------------------------------------------------------------


def test_the_answer_to_several_views_is_the_mean_of_their_softmaxes() -> None:
    _, y = batch(4)
    z = 3 * torch.randn(4 * 10, 3, generator=torch.Generator().manual_seed(1))
    measured = task().eval().measure((z, y))
    mean = torch.stack([z[10 * i : 10 * i + 10].softmax(1).mean(0) for i in range(4)])  # the views lie together
    torch.testing.assert_close(measured.output.exp(), mean)
    torch.testing.assert_close(measured.output.softmax(1), mean)
    torch.testing.assert_close(measured.loss, -mean[torch.arange(4), y].log().mean())
    assert (measured.items, measured.sums["acc"]) == (4, (mean.argmax(1) == y).sum())
    assert measured.output.shape == (4, 3)


def test_equal_views_are_one_view() -> None:
    x, y = batch(5, features=3)
    y = torch.cat([y[:4], torch.tensor([-100])])
    one, many = (task().eval().measure((each, y)) for each in (x, x.repeat_interleave(10, 0)))
    torch.testing.assert_close(one.loss, many.loss)
    assert (one.items, one.sums["acc"]) == (many.items, many.sums["acc"]) == (4, one.sums["acc"])
    torch.testing.assert_close(one.output.softmax(1), many.output.softmax(1))


@pytest.mark.parametrize("name", ["bce", "mse", "huber"])
def test_views_are_averaged_as_beliefs_under_each_loss_of_probabilities(name: str) -> None:
    z = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7], [0.3, 0.1, 0.6]])
    whole = task(loss=name).eval()
    beliefs = whole.measure((z, torch.tensor([0, 1, 2, 2]))).output.softmax(1)
    measured = whole.measure((z, torch.tensor([0, 2])))
    torch.testing.assert_close(measured.output.exp(), beliefs.unflatten(0, (2, 2)).mean(1))


def test_an_embedding_has_no_mean_over_views() -> None:
    with pytest.raises(UserError, match=r"data\.views"):
        task(loss="triplet").eval().measure((torch.randn(20, 3), torch.zeros(2, dtype=torch.long)))


# ---- five guesses ----------------------------------------------------------------------------------------------------


def test_top5_counts_the_five_likeliest() -> None:
    z = torch.arange(12.0).repeat(4, 1)  # the likeliest are 11, 10, 9, 8, 7
    sums = task(classes=12).eval().measure((z, torch.tensor([11, 7, 6, -100]))).sums
    assert (sums["top5"], sums["acc"]) == (2, 1)


def test_top5_sees_the_mean_over_views() -> None:
    z = torch.zeros(2, 12)
    z[0, [0, 1, 2, 3, 4]], z[1, [0, 1, 2, 3, 5]] = 10.0, 12.0
    sums = task(classes=12).eval().measure((z, torch.tensor([6]))).sums
    assert sums["top5"] == 0
    assert task(classes=12).eval().measure((z, torch.tensor([5]))).sums["top5"] == 1


def test_top5_is_for_evaluation_of_more_than_ten_classes() -> None:
    x, y = torch.randn(4, 12), torch.tensor([0, 1, 2, 3])
    assert "top5" not in task(classes=12).train().measure((x, y)).sums
    assert "top5" not in task(classes=10).eval().measure((x[:, :10], y)).sums
    assert "top5" not in task(classes=12, loss="triplet").eval().measure((x, y)).sums


# ---- the ordinary batch ----------------------------------------------------------------------------------------------


def test_a_net_without_auxiliary_classifiers_trains_as_before_to_the_bit() -> None:
    (x, y), net = batch(), nn.Linear(4, 3)
    other = copy.deepcopy(net)
    measured = task(net, label_smoothing=0.1).train().measure((x, y))
    measured.loss.backward()
    outputs = other(x)
    F.cross_entropy(outputs, y, ignore_index=-100, label_smoothing=0.1).backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert torch.equal(measured.output, outputs)
    assert set(measured.sums) == {"loss", "acc"}
