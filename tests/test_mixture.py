"""EM for Gaussian mixtures: scikit-learn's steps from the same start, and a likelihood that never falls."""

import math
import warnings

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Generator, Tensor

from dl_zoo.from_scratch.mixture import Mixture, draw, expectation, fit, log_gaussians, maximisation, start

TRUTH = Mixture(
    torch.tensor([0.2, 0.3, 0.5]).double(),
    torch.tensor([[0.0, 0.0], [3.0, 1.0], [-2.0, 3.0]]).double(),
    torch.tensor([[[1.0, 0.5], [0.5, 1.0]], [[0.5, -0.3], [-0.3, 1.0]], [[0.3, 0.0], [0.0, 2.0]]]).double(),
)


def points(count: int = 500, seed: int = 0) -> Tensor:
    return draw(TRUTH, count, Generator().manual_seed(seed))


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("steps", [1, 7])
def test_each_step_is_scikit_learns(full: bool, steps: int) -> None:
    x = points()
    first = start(x, 3, full)
    ours, likelihoods = fit(x, first, steps, tolerance=-1.0)
    theirs = GaussianMixture(
        3,
        covariance_type="full" if full else "diag",
        tol=0.0,
        reg_covar=0.0,
        max_iter=steps,
        weights_init=first.weights.numpy(),
        means_init=first.means.numpy(),
        precisions_init=(torch.linalg.inv(first.covariances) if full else 1 / first.covariances).numpy(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it was told to stop early
        theirs.fit(x.numpy())
    for mine, its in zip(ours, (theirs.weights_, theirs.means_, theirs.covariances_), strict=True):
        torch.testing.assert_close(mine, torch.from_numpy(its), rtol=0, atol=1e-10)
    torch.testing.assert_close(expectation(x, ours)[0], torch.from_numpy(theirs.score_samples(x.numpy())))
    torch.testing.assert_close(expectation(x, ours)[1], torch.from_numpy(theirs.predict_proba(x.numpy())))
    assert likelihoods[-1] == pytest.approx(theirs.score(x.numpy()), abs=1e-10)
    assert len(likelihoods) == steps + 1


@pytest.mark.parametrize("full", [True, False])
def test_the_likelihood_never_falls(full: bool) -> None:
    for seed in range(20):
        x = points(120, seed)
        _, likelihoods = fit(x, start(x, 4, full, seed), steps=60, tolerance=-1.0)
        gains = torch.tensor(likelihoods).double().diff()
        assert gains.min() >= -1e-9
        assert gains.sum() > 0.1


def test_one_component_is_the_mean_and_the_covariance_at_once() -> None:
    x = points()
    found, likelihoods = fit(x, Mixture(torch.ones(1).double(), x[:1], torch.eye(2).double()[None]))
    torch.testing.assert_close(found.means[0], x.mean(0))
    torch.testing.assert_close(found.covariances[0], torch.cov(x.T, correction=0))
    best = -0.5 * (2 * math.log(2 * math.pi) + torch.logdet(found.covariances[0]).item() + 2)  # E[distance] = D
    assert likelihoods[1:] == pytest.approx([best, best])
    assert likelihoods[0] < best - 0.1


def test_a_gaussians_density_is_torchs() -> None:
    x = points(20)
    for k in range(3):
        its = torch.distributions.MultivariateNormal(TRUTH.means[k], TRUTH.covariances[k]).log_prob(x)
        torch.testing.assert_close(log_gaussians(x, TRUTH.means, TRUTH.covariances)[:, k], its)
    variances = TRUTH.covariances.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(
        log_gaussians(x, TRUTH.means, variances), log_gaussians(x, TRUTH.means, variances.diag_embed())
    )


def test_it_finds_what_the_points_were_drawn_from() -> None:
    x = points(4000)
    found, likelihoods = fit(x, start(x, 3, seed=1), steps=300)
    order = torch.cdist(TRUTH.means, found.means).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2]
    torch.testing.assert_close(found.weights[order], TRUTH.weights, rtol=0, atol=0.03)
    torch.testing.assert_close(found.means[order], TRUTH.means, rtol=0, atol=0.15)
    torch.testing.assert_close(found.covariances[order], TRUTH.covariances, rtol=0, atol=0.25)
    assert likelihoods[-1] >= expectation(x, TRUTH)[0].mean().item()  # it fits these points better than the truth


def test_a_component_on_one_point_has_no_bound_and_a_floor_keeps_off_it() -> None:
    x = points(50)
    gamma = torch.tensor([[0.0, 1.0]]).double().repeat(50, 1)
    gamma[0] = torch.tensor([1.0, 0.0])
    with pytest.raises(torch.linalg.LinAlgError):
        expectation(x, maximisation(x, gamma))
    assert expectation(x, maximisation(x, gamma, floor=1e-6))[0].isfinite().all()
    with pytest.raises(ValueError, match="2 points are too few for 3 components"):
        fit(x[:2], TRUTH)
