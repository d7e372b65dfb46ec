"""Batch normalisation of units (N, D), forwards and backwards.

Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015,
arXiv:1502.03167, algorithms 1 and 2. Statistics are those of the batch in training, and running means in evaluation.

Two variances are at work: x is divided by the batch's own, over N (algorithm 1); the running one gathers the unbiased
estimate, over N - 1 (algorithm 2, step 10). The paper averages after training, over batches of the finished net; here,
as in torch, a mean that forgets is kept along the way, and `momentum` is the share of the newest, not of the past.
That it works by reducing "covariate shift" is the paper's explanation, and contested (Santurkar et al. 2018,
arXiv:1805.11604).
"""

from typing import NamedTuple

from torch import Tensor


class Running(NamedTuple):
    mean: Tensor  # (D,)
    variance: Tensor  # (D,)


class Kept(NamedTuple):
    """What the way back needs."""

    x_hat: Tensor  # (N, D)
    std: Tensor  # (D,), with epsilon


def batch_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, running: Running, momentum: float = 0.1, eps: float = 1e-5
) -> tuple[Tensor, Running, Kept]:
    """In training: outputs (N, D), what evaluation will use from now on, and what the way back needs.

    ValueError: one example alone, whose variance says nothing.
    """
    n = len(x)
    if n < 2:
        raise ValueError("a batch of one example has no variance; take two or more")
    mean = x.mean(0)  # mu = 1/N sum x_n
    variance = ((x - mean) ** 2).mean(0)  # sigma^2 = 1/N sum (x_n - mu)^2
    std = (variance + eps).sqrt()
    x_hat = (x - mean) / std  # (x - mu) / sqrt(sigma^2 + epsilon)
    unbiased = variance * n / (n - 1)
    running = Running(
        (1 - momentum) * running.mean + momentum * mean, (1 - momentum) * running.variance + momentum * unbiased
    )
    return gamma * x_hat + beta, running, Kept(x_hat, std)  # y = gamma x_hat + beta


def batch_norm_evaluation(x: Tensor, gamma: Tensor, beta: Tensor, running: Running, eps: float = 1e-5) -> Tensor:
    """Each example by itself: the same affine map for all."""
    return gamma * (x - running.mean) / (running.variance + eps).sqrt() + beta


def batch_norm_backward(error: Tensor, gamma: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
    """From dL/dy (N, D) to dL/dx, dL/dgamma and dL/dbeta (section 3).

    mu and sigma depend on each x, so what reaches an example is freed of its mean and of its part along x_hat:

        dL/dx = (e - mean(e) - x_hat mean(e x_hat)) / std,    e = gamma dL/dy
    """
    x_hat, std = kept
    e = error * gamma
    by_x = (e - e.mean(0) - x_hat * (e * x_hat).mean(0)) / std
    return by_x, (error * x_hat).sum(0), error.sum(0)  # dL/dgamma = sum e x_hat, dL/dbeta = sum e
