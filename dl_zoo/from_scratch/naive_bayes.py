"""Naive Bayes: a classifier that models the inputs of each class, and gets its answer by Bayes' rule.

Maron, "Automatic Indexing: An Experimental Inquiry", 1961, J. ACM 8(3); Duda, Hart, "Pattern Classification and Scene
Analysis", 1973; as one half of a pair, Ng, Jordan, "On Discriminative vs. Generative Classifiers", 2001, NIPS 14.

    p(y = k | x) = p(k) p(x | k) / sum_j p(j) p(x | j),        p(x | k) = prod_d p(x_d | k)

The second line is what is naive: within a class, coordinates are taken for independent. Fitting is counting, without a
step of descent: the parameters maximise the likelihood of inputs and labels together, log p(x, y). Logistic regression
maximises log p(y | x) over the same functions: for bits, and for Gaussians of one variance in all classes,

    log p(j | x) - log p(k | x)   is linear in x.

Letters: N items, D coordinates, K classes; x (N, D), targets (N,) int64 from 0 to K - 1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Bernoulli(NamedTuple):
    log_prior: Tensor  # log p(k), (K,)
    chances: Tensor  # theta (K, D): of a one at each coordinate

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x_n, k), (N, K), of bits x: log p(k) + sum_d [x_d log theta_kd + (1 - x_d) log(1 - theta_kd)].

        0 log 0 counts as 0: a bit that a class never had makes log p(x, k) = -inf, and nothing else does.
        """
        ones = torch.xlogy(x[:, None], self.chances).sum(-1)  # (N, K)
        return self.log_prior + ones + torch.xlogy(1 - x[:, None], 1 - self.chances).sum(-1)


class Gaussian(NamedTuple):
    log_prior: Tensor  # log p(k), (K,)
    means: Tensor  # mu (K, D)
    variances: Tensor  # sigma^2 (K, D)

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x_n, k), (N, K): log p(k) - 1/2 sum_d [log(2 pi sigma_kd^2) + (x_d - mu_kd)^2 / sigma_kd^2]."""
        squared = (x[:, None] - self.means) ** 2 / self.variances  # (N, K, D)
        return self.log_prior - 0.5 * ((2 * math.pi * self.variances).log() + squared).sum(-1)


def bernoulli(x: Tensor, targets: Tensor, classes: int, smoothing: float = 1.0) -> Bernoulli:
    """Of bits x, 0 or 1, as floats. `smoothing`: ones, and zeros, that each class is taken to have had beforehand.

    Laplace's rule of succession at 1; at 0 it is maximum likelihood, and one bit not seen before vetoes a class.
    ValueError: numbers that are no bits, a class without an item, a negative smoothing.
    """
    if not ((x == 0) | (x == 1)).all() or smoothing < 0:
        raise ValueError(f"bits must be 0 or 1, and smoothing={smoothing} at least 0")
    members, counts = of_classes(x, targets, classes)
    ones = members.T @ x  # (K, D)
    chances = (ones + smoothing) / (counts[:, None] + 2 * smoothing)  # theta_kd = (#(x_d = 1, k) + l) / (#k + 2 l)
    return Bernoulli((counts / len(x)).log(), chances)  # p(k) = #k / N


def gaussian(x: Tensor, targets: Tensor, classes: int, shared: bool = False, floor: float = 1e-9) -> Gaussian:
    """`shared`: a coordinate varies alike in all classes, as Ng and Jordan have it; it makes the boundaries linear.

    `floor` times the largest variance of a coordinate over all items is added to every variance, so that one which is
    constant in a class has one. ValueError: a class without an item, a negative floor, inputs that do not vary.
    """
    members, counts = of_classes(x, targets, classes)
    largest = x.var(0, correction=0).max()
    if floor < 0 or largest == 0:
        raise ValueError(f"floor={floor} must be at least 0, and the inputs must vary")
    means = members.T @ x / counts[:, None]  # mu_k = 1/N_k sum_(n of k) x_n
    away = (x - means[targets]) ** 2  # (N, D)
    variances = members.T @ away / counts[:, None]  # sigma_k^2 = 1/N_k sum_(n of k) (x_n - mu_k)^2
    if shared:
        variances = away.mean(0).expand(classes, -1)  # sigma^2 = 1/N sum_n (x_n - mu_(y_n))^2
    return Gaussian((counts / len(x)).log(), means, variances + floor * largest)


def of_classes(x: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Which item is of which class, one-hot (N, K), and how many each class has (K,)."""
    members = (targets[:, None] == torch.arange(classes)).to(x.dtype)
    counts = members.sum(0)
    if not (counts > 0).all():
        raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no item")
    return members, counts
