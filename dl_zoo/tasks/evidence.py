"""Terms of the bound on the evidence log p(x) of models with latents z, in nats; one number an item.

Kingma, Welling 2013, arXiv:1312.6114, sections 2.2 and 2.3, appendices B and C; Burda, Grosse, Salakhutdinov,
"Importance Weighted Autoencoders", 2016, arXiv:1509.00519, equation 8 and theorem 1:

    L_k = E log 1/k sum_i w_i,   w_i = p(x | z_i) p(z_i) / q(z_i | x),   L_1 <= L_2 <= ... <= log p(x)
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError

LOG_TWO_PI = math.log(2 * math.pi)
ACTIVE = 0.01  # of the variance over the data of a latent's mean: Burda et al. 2016, section 5.2


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, exp(log_variance)) from N(0, 1), (B, L) -> (B,): appendix B.

    >>> divergence(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2)).tolist()
    [0.5]
    """
    mean, log_variance = full(mean), full(log_variance)
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def log_ratio(noise: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log p(z) - log q(z | x) at z = mean + exp(log_variance / 2) * noise: (..., B, L) -> (..., B)."""
    mean, log_variance, noise = full(mean), full(log_variance), full(noise)
    z = mean + (log_variance / 2).exp() * noise
    return 0.5 * (noise.square() + log_variance - z.square()).sum(-1)


def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x | z) of pixels x (B, C, H, W) in 0..1 by logits (..., B, C, H, W): (..., B).

    Of grey values this is the negative cross entropy, and no probability: it has no normalising constant.
    """
    cost = F.binary_cross_entropy_with_logits(full(logits), full(x).expand_as(logits), reduction="none")
    return -cost.flatten(-3).sum(-1)


def log_gaussian(x: Tensor, middle: Tensor, deviation: float) -> Tensor:
    """log density of x (B, C, H, W) by N(middle, deviation^2), middle (..., B, C, H, W): (..., B)."""
    squares = ((x - middle) / deviation).square().flatten(-3)
    return -0.5 * squares.sum(-1) - squares.shape[-1] * (math.log(deviation) + 0.5 * LOG_TWO_PI)


def log_mean(weights: Tensor) -> Tensor:
    """Log of the mean of importance weights, given by their logarithms: (K, B) -> (B,).

    >>> log_mean(torch.tensor([[1.0, 3.0]]).T.log()).exp().tolist()
    [2.0]
    """
    return weights.logsumexp(0) - math.log(len(weights))


def of_evaluation(purpose: str, index: int) -> torch.Generator:
    """Draws for batch `index` of an evaluation: the same in every one, and for each purpose others.

    Torch's generator keeps 32 bits of a seed, so these are a digest's.
    """
    digest = hashlib.sha256(f"{purpose} {index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def full(x: Tensor) -> Tensor:
    """In float32 where it is less: sums over latents in bfloat16 are off by tenths of a nat."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def moments(mean: Tensor) -> dict[str, Tensor]:
    """Sums over a batch's posterior means (B, L), from which `active` follows: float64."""
    mean = mean.double()
    return {"items": mean.new_tensor(len(mean)), "mean": mean.sum(0), "square": mean.square().sum(0)}


def active(sums: Mapping[str, float]) -> int:
    """How many latents' means vary over the pictures: by sums `items/0`, `mean/0`, `square/0`, `mean/1`, ...

    >>> active({"items/0": 2.0, "mean/0": 2.0, "square/0": 4.0, "mean/1": 2.0, "square/1": 2.0})
    1
    """
    items, units = sums.get("items/0", 1.0), (name for name in sums if name.startswith("mean/"))
    pairs = ((sums[name] / items, sums[f"square{name[4:]}"] / items) for name in units)
    return sum(square - mean * mean > ACTIVE for mean, square in pairs)


def refuse(counts: dict[str, tuple[Any, int]], bound: str, beta: float, likelihood: str, deviation: float) -> None:
    """UserError: numbers out of their bounds, words that are none, and an exact bound with a weight in it."""
    for name, (value, least) in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"task.{name}={value}: must be a whole number of at least {least}")
    for name, value, words in (
        ("bound", bound, ("elbo", "iwae")),
        ("likelihood", likelihood, ("bernoulli", "gaussian")),
    ):
        if value not in words:
            raise UserError(f"task.{name}={value}: must be {' or '.join(words)}")
    if not beta >= 0:
        raise UserError(f"task.beta={beta}: must be at least 0")
    if not deviation > 0:
        raise UserError(f"task.deviation={deviation}: must be above 0")
    if bound == "iwae" and beta != 1:
        raise UserError(f"task.beta={beta}: the importance-weighted bound has no divergence to weigh; task.bound=elbo")
