"""The Fréchet distance of two clouds of features, each taken for a Gaussian.

Dowson, Landau, "The Fréchet Distance between Multivariate Normal Distributions", J. Multivariate Analysis 12, 1982;
Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local
Nash Equilibrium", 2017, arXiv:1706.08500, section 3, where the features are those of Inception:

    d^2 = |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))

C C' is not symmetric, and its root of nearly singular matrices is a matter of luck. Its trace is not: with any A of
A A^T = C the eigenvalues of C C' are the squared singular values of A^T A', so the trace is their sum. The roots A of
the covariances may have zero eigenvalues, which do no harm; there is no epsilon.

The distance is biased upwards by about 1 / items: compare only what was measured with as many of each.
"""

import torch
from torch import Tensor


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """Of rows (N, F) and (M, F), by their means and covariances: 0 of equal ones, in squared units of the features.

    >>> frechet_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]]))  # the same, moved by 3
    9.0
    """
    return between_gaussians(*moments(features), *moments(others))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and unbiased covariance (F, F) of rows (N, F), in float64. ValueError of fewer than two rows."""
    if len(features) < 2:
        raise ValueError(f"{len(features)} row(s) have no covariance; it takes two")
    rows = features.detach().double().cpu()
    mean = rows.mean(0)
    centred = rows - mean
    return mean, centred.T @ centred / (len(rows) - 1)


def between_gaussians(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """The closed form, of means (F,) and covariances (F, F)."""
    crossed = torch.linalg.svdvals(root(covariance).T @ root(other_covariance)).sum()
    spread = covariance.trace() + other_covariance.trace() - 2 * crossed
    return float(((mean - other_mean) ** 2).sum() + spread.clamp(min=0))  # below 0 by rounding alone


def root(covariance: Tensor) -> Tensor:
    """A with A A^T = C, (F, F)."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()
