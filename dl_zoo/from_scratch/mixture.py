"""Gaussian mixtures by expectation and maximisation: points that fall into groups nobody has named.

Dempster, Laird, Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", 1977, J. R. Stat. Soc. B 39(1);
Bishop, "Pattern Recognition and Machine Learning", 2006, section 9.2, whose equations are cited.

    p(x) = sum_k pi_k N(x | mu_k, Sigma_k)                                                    (9.7)

If each point's group were known, weights, means and covariances would be plain averages; if those were known, so would
be the odds of the groups. EM takes turns, and the log likelihood never falls (section 9.4), whatever the start. It ends
in a maximum near the start, not in the best one; and the likelihood has no bound: a component that shrinks to a
single point makes it infinite. `floor`, added to each variance, keeps off that, at the price of the promise: with a
floor above 0 it is no longer the likelihood alone that rises.

Letters: N points, D coordinates, K components; x (N, D).
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Mixture(NamedTuple):
    weights: Tensor  # pi (K,), of sum 1
    means: Tensor  # mu (K, D)
    covariances: Tensor  # Sigma (K, D, D); or variances (K, D), of components whose coordinates are independent


def log_gaussians(x: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """log N(x_n | mu_k, Sigma_k), (N, K). Raises torch.linalg.LinAlgError where a covariance is singular.

    >>> log_gaussians(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2))  # - log 2 pi
    tensor([[-1.8379]])
    """
    away = x[:, None] - means  # (N, K, D)
    if covariances.dim() == 2:
        distance = (away**2 / covariances).sum(-1)  # sum_d (x_d - mu_d)^2 / sigma_d^2
        log_determinant = covariances.log().sum(-1)  # (K,)
    else:
        root = torch.linalg.cholesky(covariances)  # Sigma = L L^T
        y = torch.linalg.solve_triangular(root, away.permute(1, 2, 0), upper=False)  # (K, D, N): L^-1 (x - mu)
        distance = (y**2).sum(1).T  # (x - mu)^T Sigma^-1 (x - mu)
        log_determinant = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * (x.shape[1] * math.log(2 * math.pi) + log_determinant + distance)


def expectation(x: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """log p(x_n) (N,), and how likely each component is to have made each point, gamma (N, K), rows of sum 1."""
    joint = mixture.weights.log() + log_gaussians(x, mixture.means, mixture.covariances)  # log pi_k N(x_n | k)
    log_p = joint.logsumexp(1)  # log sum_k pi_k N(x_n | k)
    return log_p, (joint - log_p[:, None]).exp()  # gamma_nk = pi_k N(x_n | k) / sum_j pi_j N(x_n | j), eq. 9.23


def maximisation(x: Tensor, gamma: Tensor, full: bool = True, floor: float = 0.0) -> Mixture:
    """The mixture that makes x most likely if gamma (N, K) says to which share each point is whose."""
    counts = gamma.sum(0)  # N_k = sum_n gamma_nk, eq. 9.27
    means = gamma.T @ x / counts[:, None]  # mu_k = 1/N_k sum_n gamma_nk x_n, eq. 9.24
    away = x[:, None] - means  # (N, K, D)
    if full:  # Sigma_k = 1/N_k sum_n gamma_nk (x_n - mu_k)(x_n - mu_k)^T, eq. 9.25
        covariances = torch.einsum("nk,nkd,nke->kde", gamma, away, away) / counts[:, None, None]
        covariances = covariances + floor * torch.eye(x.shape[1], dtype=x.dtype)
    else:
        covariances = torch.einsum("nk,nkd->kd", gamma, away**2) / counts[:, None] + floor
    return Mixture(counts / len(x), means, covariances)  # pi_k = N_k / N, eq. 9.26


def fit(
    x: Tensor, mixture: Mixture, steps: int = 100, tolerance: float = 1e-9, floor: float = 0.0
) -> tuple[Mixture, list[float]]:
    """From a start on, until a step gains less than `tolerance`: the mixture, and after no step, one, two .. the mean
    log likelihood of a point, in nats. What the start's covariances are, full or variances, stays.

    ValueError: fewer points than components.
    """
    if len(x) < len(mixture.weights):
        raise ValueError(f"{len(x)} points are too few for {len(mixture.weights)} components")
    log_p, gamma = expectation(x, mixture)
    likelihoods = [float(log_p.mean())]
    for _ in range(steps):
        mixture = maximisation(x, gamma, mixture.covariances.dim() == 3, floor)
        log_p, gamma = expectation(x, mixture)
        likelihoods.append(float(log_p.mean()))
        if likelihoods[-1] - likelihoods[-2] < tolerance:
            break
    return mixture, likelihoods


def start(x: Tensor, components: int, full: bool = True, seed: int = 0) -> Mixture:
    """Equal weights, means at points drawn apart from one another, and the covariance of all points for each.

    Each mean after the first is a point drawn with a probability in proportion to its squared distance from the nearest
    one (Arthur, Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007, section 2.2).
    """
    generator = Generator().manual_seed(seed)
    means = x[torch.randint(len(x), (1,), generator=generator)]
    for _ in range(1, components):
        squared = (x[:, None] - means).square().sum(-1).amin(1)  # (N,)
        means = torch.cat([means, x[torch.multinomial(squared, 1, generator=generator)]])
    one = maximisation(x, torch.ones_like(x[:, :1]), full).covariances
    weights = torch.full((components,), 1 / components, dtype=x.dtype)
    return Mixture(weights, means, one.expand(components, *one.shape[1:]).clone())


def draw(mixture: Mixture, count: int, generator: Generator) -> Tensor:
    """Points (count, D) of the mixture."""
    which = torch.multinomial(mixture.weights, count, replacement=True, generator=generator)
    noise = torch.randn(count, mixture.means.shape[1], dtype=mixture.means.dtype, generator=generator)
    if mixture.covariances.dim() == 2:
        return mixture.means[which] + mixture.covariances.sqrt()[which] * noise
    root = torch.linalg.cholesky(mixture.covariances)
    return mixture.means[which] + torch.einsum("nde,ne->nd", root[which], noise)  # mu + L z
