"""The losses are their equations, ignore what is to be ignored, and teach."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL, trained
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.refusals import LOSSES
from dl_zoo.tasks import losses
from dl_zoo.tasks.classification import LOSSES as BY_NAME
from dl_zoo.tasks.classification import Classification

Z = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]])
T = torch.tensor([0, 2])


def task(**arguments: Any) -> Classification:
    optimizer: Any = None
    return Classification(torch.nn.Identity(), optimizer, num_classes=3, **arguments)


def by_hand(name: str, z: float, p: float) -> float:
    """One output against one probability."""
    s = 1 / (1 + math.exp(-z))
    if name == "bce":
        return -p * math.log(s) - (1 - p) * math.log(1 - s)
    error = abs(z - p)
    return error**2 if name == "mse" else error**2 / 2 if error <= 1 else error - 0.5


def test_the_names_that_refusals_knows_are_those_of_the_task() -> None:
    assert sorted(BY_NAME) == sorted(LOSSES)


@pytest.mark.parametrize("name", ["bce", "mse", "huber"])
def test_losses_of_probabilities_are_their_equations(name: str) -> None:
    onehot = [[1, 0, 0], [0, 0, 1]]
    expected = sum(by_hand(name, float(Z[i, k]), onehot[i][k]) for i in range(2) for k in range(3)) / 6
    assert float(losses.pointwise(name, Z, T)) == pytest.approx(expected)


def test_cross_entropy_is_its_equation() -> None:
    expected = [-(2 - math.log(sum(math.exp(z) for z in Z[0]))), -(-2 - math.log(sum(math.exp(z) for z in Z[1])))]
    assert float(losses.cross_entropy(Z, T)) == pytest.approx(sum(expected) / 2)


@pytest.mark.parametrize("name", ["cross_entropy", "bce", "mse", "huber"])
def test_probabilities_and_classes_and_smoothing_agree(name: str) -> None:
    loss, onehot = BY_NAME[name], F.one_hot(T, 3).float()
    assert loss(Z, onehot, smoothing=0.0) == pytest.approx(float(loss(Z, T, smoothing=0.0)))
    smooth = 0.7 * onehot + 0.1
    assert float(loss(Z, T, smoothing=0.3)) == pytest.approx(float(loss(Z, smooth, smoothing=0.0)), rel=1e-5)


def test_contrastive_is_its_equation() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.6]])  # distances 5, 0.6, and 3 to 4 less 0.6: sqrt(20.56)
    targets = torch.tensor([0, 0, 1])
    expected = (5**2 / 2 + (1 - 0.6) ** 2 / 2 + 0) / 3  # the third pair is farther apart than the margin
    assert float(losses.contrastive(x, targets, margin=1.0)) == pytest.approx(expected)


def test_triplet_is_its_equation() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
    targets = torch.tensor([0, 0, 0, 1])
    # anchors: 0 -> 3 - 3.5; 1 -> 2 - 2.5; 3 -> 3 - 0.5; the fourth has no equal
    expected = (max(0, 1 + 3 - 3.5) + max(0, 1 + 2 - 2.5) + (1 + 3 - 0.5)) / 3
    assert float(losses.triplet(x, targets, margin=1.0)) == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_what_is_left_out_changes_neither_loss_nor_measures(name: str) -> None:
    torch.manual_seed(0)
    z, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    more, marked = torch.cat([z, torch.randn(2, 3)]), torch.cat([targets, torch.tensor([-100, -100])])
    one, other = (task(loss=name).measure(batch) for batch in ((z, targets), (more, marked)))
    assert float(one.loss) == pytest.approx(float(other.loss), rel=1e-5)
    assert int(one.items) == int(other.items) == 6
    assert float(one.sums["acc"]) == float(other.sums["acc"])
    assert float(one.sums["loss"]) == pytest.approx(float(other.sums["loss"]), rel=1e-5)


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("items", [1, 2, 6])
def test_every_batch_has_a_finite_loss_and_gradient(name: str, items: int) -> None:
    z = torch.zeros(items, 3, requires_grad=True)  # equal embeddings: every distance is 0
    measured = task(loss=name).measure((z, torch.arange(items) % 2))
    measured.loss.backward()
    assert measured.loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_neighbours_vote() -> None:
    x = torch.tensor([[0.0], [0.1], [5.0], [5.1], [5.15]])
    assert losses.votes(x, torch.tensor([0, 0, 1, 1, 2]), 3).argmax(1).tolist() == [0, 0, 1, 2, 1]


def test_an_item_alone_has_no_neighbour_and_is_not_right() -> None:
    for targets in (torch.tensor([0]), torch.tensor([0, -100])):
        measured = task(loss="contrastive").measure((torch.randn(len(targets), 3), targets))
        assert int(measured.sums["acc"]) == 0


def test_scores_are_beliefs_in_the_order_of_the_outputs() -> None:
    z = torch.tensor([[0.9, 0.05, 0.05], [-0.2, -0.1, -0.3]])
    scores = losses.log_of_probabilities(z)
    torch.testing.assert_close(scores[0].softmax(0), z[0], atol=1e-4, rtol=1e-4)
    assert scores.argmax(1).tolist() == z.argmax(1).tolist() == [0, 1]


def test_mixed_pictures_have_no_pairs() -> None:
    with pytest.raises(ValueError, match="one class each"):
        task(loss="triplet").measure((Z, F.one_hot(T, 3).float()))


def test_label_smoothing_is_for_training_alone() -> None:
    smooth, plain = task(label_smoothing=0.1), task()
    assert smooth.train().measure((Z, T)).loss != plain.train().measure((Z, T)).loss
    assert smooth.eval().measure((Z, T)).loss == plain.eval().measure((Z, T)).loss


@pytest.mark.parametrize(
    "arguments", [{"loss": "hinge"}, {"label_smoothing": 1.0}, {"label_smoothing": 0.1, "loss": "triplet"}]
)
def test_wrong_numbers_are_told(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"task\.\w+="):
        task(**arguments)


@pytest.mark.parametrize(
    ("name", "least"),
    [("cross_entropy", 0.88), ("bce", 0.88), ("mse", 0.88), ("huber", 0.85), ("contrastive", 0.85), ("triplet", 0.85)],
)
def test_each_loss_teaches_digits(name: str, least: float) -> None:
    result = trained(
        "model=mlp",
        "model.width=64",
        f"task.loss={name}",
        "trainer.max_epochs=6",
        "optimizer.lr=5e-3",
        "data.batch_size=64",
    )
    assert result.metrics["test/acc"] > least, result.metrics


def test_an_embedding_may_have_fewer_dimensions_than_classes() -> None:
    small = ["model=mlp", "model.num_classes=3", "task.loss=contrastive", "trainer.max_epochs=1", "pictures=true"]
    result = trained(*small)
    assert 0 < result.metrics["test/acc"] <= 1
    assert SMALL


def gradient(name: str, z: Tensor) -> float:
    z = z.clone().requires_grad_()
    BY_NAME[name](z, torch.tensor([0])).backward()
    assert z.grad is not None
    return float(z.grad.abs().max())


def test_a_confident_mistake_pulls_at_cross_entropy_and_an_outlier_little_at_huber() -> None:
    wrong = torch.tensor([[-8.0, 8.0, 0.0]])
    assert gradient("cross_entropy", wrong) == pytest.approx(1.0, abs=1e-3)
    assert gradient("huber", wrong) == pytest.approx(1 / 3)  # bounded, however far
    assert gradient("mse", wrong) == pytest.approx(2 * 9 / 3)
