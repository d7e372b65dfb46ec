"""Naive Bayes written out, and what the probes of few labels and of EM say of pictures."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.from_scratch import mixture
from dl_zoo.from_scratch.naive_bayes import bernoulli, gaussian
from dl_zoo.probes.em_likelihood import em_likelihood, smallest_rise
from dl_zoo.probes.few_labels import few_labels

STEPS: dict[str, Any] = {
    "expectation": mixture.expectation,
    "maximisation": mixture.maximisation,
    "start": mixture.start,
}


def items(count: int = 60, coordinates: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % classes
    return torch.randn(count, coordinates, generator=generator).double() + targets[:, None], targets


def pictures(seed: int = 0, count: int = 120) -> Any:
    """Two classes of 3x3 pictures, told apart by how many pixels are white."""
    generator = torch.Generator().manual_seed(1)

    def split() -> tuple[Tensor, Tensor]:
        targets = torch.arange(count) % 2
        white = torch.rand(count, 1, 3, 3, generator=generator) < (0.3 + 0.4 * targets)[:, None, None, None]
        shades = torch.randint(100, (count, 1, 3, 3), generator=generator)
        return (155 * white + shades).to(torch.uint8), targets

    splits = {name: split() for name in ("train", "val", "test")}
    return SimpleNamespace(splits=splits, classes=["few", "many"], seed=seed)


# ---- naive Bayes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [1.0, 0.1, 3.0])
def test_bernoulli_is_scikit_learns(smoothing: float) -> None:
    x, targets = items()
    x = (x > 0.5).double()
    ours = bernoulli(x, targets, 3, smoothing).log_joint(x)
    theirs = BernoulliNB(alpha=smoothing).fit(x.numpy(), targets.numpy()).predict_joint_log_proba(x.numpy())
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("floor", [1e-9, 0.1])
def test_gaussian_is_scikit_learns(floor: float) -> None:
    x, targets = items()
    ours = gaussian(x, targets, 3, floor=floor).log_joint(x)
    theirs = GaussianNB(var_smoothing=floor).fit(x.numpy(), targets.numpy()).predict_joint_log_proba(x.numpy())
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-10, atol=1e-10)


def test_one_variance_for_all_classes_makes_the_boundaries_linear() -> None:
    """log p(j | x) - log p(k | x) at the middle of two inputs is the mean of those at the two."""
    x, targets = items()
    middle = (x[:10] + x[10:20]) / 2
    for shared, linear in ((True, True), (False, False)):
        model = gaussian(x, targets, 3, shared=shared)
        odds = [model.log_joint(each).diff(dim=1) for each in (x[:10], x[10:20], middle)]
        assert torch.allclose((odds[0] + odds[1]) / 2, odds[2], rtol=0, atol=1e-10) == linear


def test_a_bit_never_seen_vetoes_a_class_only_without_smoothing() -> None:
    x, targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0, 1, 1])
    asked = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert bernoulli(x, targets, 2, 0.0).log_joint(asked)[:, 0].exp().tolist() == [0.0, 0.5]
    half = bernoulli(x, targets, 2, 1.0).log_joint(asked)[:, 0].exp()  # 1/2 * 3/4 * 1/4, 1/2 * 3/4 * 3/4
    torch.testing.assert_close(half, torch.tensor([3 / 32, 9 / 32]))


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (lambda x, t: bernoulli(x, t, 3), "must be 0 or 1"),
        (lambda x, t: bernoulli((x > 0).double(), t, 4), "class 3 has no item"),
        (lambda x, t: gaussian(x, t, 3, floor=-1.0), "floor=-1.0"),
        (lambda x, t: gaussian(0 * x, t, 3), "must vary"),
    ],
)
def test_what_naive_bayes_cannot_be_fitted_to(fit: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit(*items())


# ---- few labels ------------------------------------------------------------------------------------------------------


def test_the_errors_are_those_of_scikit_learn_where_all_items_are_taken() -> None:
    data = pictures()
    found = few_labels(None, data, generative=bernoulli, sizes=[120], draws=2)  # drawn: all of them, in another order
    x, asked = ((data.splits[name][0].flatten(1) > 127).double().numpy() for name in ("train", "test"))
    y, right = (data.splits[name][1].numpy() for name in ("train", "test"))
    for name, model in (("naive_bayes", BernoulliNB()), ("logistic", LogisticRegression(C=1e6, max_iter=2000))):
        error = 1 - model.fit(x, y).score(asked, right)
        assert found[f"few_labels/{name}_0120"] == pytest.approx(error, abs=0.01)
        assert 0 < error < 0.3


def test_the_items_hang_on_the_seed_alone() -> None:
    ask = partial(few_labels, None, generative=bernoulli, sizes=[4], draws=3)
    assert ask(pictures(0)) == ask(pictures(0)) != ask(pictures(1))


@pytest.mark.parametrize("sizes", [[], [1], [122], [4, 1000]])
def test_sizes_that_there_are_not(sizes: list[int]) -> None:
    with pytest.raises(UserError, match=r"probe\.few_labels"):
        few_labels(None, pictures(), generative=bernoulli, sizes=sizes)


def test_points_are_no_pictures() -> None:
    data = SimpleNamespace(splits={name: (torch.zeros(4, 2), torch.zeros(4)) for name in ("train", "val", "test")})
    with pytest.raises(UserError, match="pictures"):
        few_labels(None, data, generative=bernoulli)
    with pytest.raises(UserError, match="pictures"):
        em_likelihood(None, data, **STEPS)


# ---- EM --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_likelihood_never_falls_and_with_too_long_a_step_it_does(seed: int) -> None:
    ask = partial(em_likelihood, None, pictures(seed), **STEPS, components=3, coordinates=3, steps=30)
    whole, broken = ask(), ask(overstep=2.5)
    assert whole["em_likelihood/smallest_rise"] >= -1e-9
    assert whole["em_likelihood/gain"] > 0.05
    assert broken["em_likelihood/smallest_rise"] < -1e-3


def test_a_single_component_is_the_one_gaussian() -> None:
    found = em_likelihood(None, pictures(), **STEPS, components=1, coordinates=3, steps=2)
    assert found["em_likelihood/bits"] == pytest.approx(found["em_likelihood/bits_gaussian"], abs=1e-10)


def test_the_smallest_rise_is_a_share_of_the_likelihood() -> None:
    assert smallest_rise([-10.0, -5.0, -6.0, -5.5]) == pytest.approx(-0.2)
    assert smallest_rise([0.5, 0.4, 0.6]) == pytest.approx(-0.1)


@pytest.mark.parametrize("wrong", [{"components": 0}, {"coordinates": 10}, {"components": 60}, {"starts": 0}])
def test_numbers_that_em_cannot_take(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"probe\.em_likelihood"):
        em_likelihood(None, pictures(), **STEPS, **wrong)
