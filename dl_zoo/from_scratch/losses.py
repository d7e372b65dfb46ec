"""Losses, each with its gradient by hand: a function answers (loss, gradient), the latter by its first argument.

Losses are means over N examples, so a gradient has 1/N in it and a learning rate does not depend on the batch. The
article writes N for the squared error (section 1.2) and one example for the cross-entropies.

- "y-hat - y" for softmax and cross-entropy (section 1.3.2) is dL/dz, by the logits. It is not dL/dy-hat, by the
  probabilities, as the article has it: that is -y / y-hat, and the softmax lies between.
- The article's log(y-hat) is infinite once y-hat has rounded to 0, at logits that occur. From logits nothing rounds.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dl_zoo.from_scratch.activations import log_softmax, sigmoid


def squared_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """MSE, a mean over all numbers (torch's) where an example has several: the article speaks of one an example."""
    e, n = prediction - target, prediction.numel()
    return (e**2).sum() / n, 2 * e / n  # L = 1/N sum (y-hat - y)^2,  dL/dy-hat = 2/N (y-hat - y)


def binary_cross_entropy(probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """As the article writes it, from probabilities strictly between 0 and 1; see `logistic_loss`."""
    p, y, n = probability, target, probability.numel()
    loss = -(y * p.log() + (1 - y) * (1 - p).log()).sum() / n  # L = -[y log p + (1 - y) log(1 - p)]
    return loss, (p - y) / (p * (1 - p)) / n  # dL/dp = -y/p + (1 - y)/(1 - p)


def logistic_loss(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy from logits z, p = sigmoid(z); targets from 0 to 1, all of one shape."""
    z, y, n = logits, target, logits.numel()
    loss = z.clamp(min=0) - z * y + torch.log1p(torch.exp(-z.abs()))  # log(1 + e^z) - y z
    return loss.sum() / n, (sigmoid(z) - y) / n  # dL/dz = p - y: no factor p (1 - p), which would saturate


def categorical_cross_entropy(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """As the article writes it: probabilities (N, C) above 0, targets (N, C), one-hot or not; see `cross_entropy`."""
    n = len(probabilities)
    return -(target * probabilities.log()).sum() / n, -target / probabilities / n  # -sum_i y_i log p_i;  -y_i / p_i


def cross_entropy(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """From logits (N, C); targets (N,) classes, or (N, C) probabilities."""
    y = one_hot(target, logits) if target.ndim < logits.ndim else target
    log_p, n = log_softmax(logits), len(logits)
    error = log_p.exp() * y.sum(-1, keepdim=True) - y  # dL/dz = p - y, where the targets' sum is 1
    return -(y * log_p).sum() / n, error / n


def one_hot(classes: Tensor, like: Tensor) -> Tensor:
    return (classes[:, None] == torch.arange(like.shape[-1], device=like.device)).to(like.dtype)


def huber(prediction: Tensor, target: Tensor, delta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Huber, "Robust Estimation of a Location Parameter", 1964: half a square near 0, a line beyond `delta`.

    An outlier's pull is at most delta, where that of a square grows with its error.
    """
    e, n = prediction - target, prediction.numel()
    far = e.abs() > delta
    loss = torch.where(far, delta * (e.abs() - delta / 2), e**2 / 2)  # the two meet in value and slope
    return loss.sum() / n, e.clamp(-delta, delta) / n  # dL/de = e, or delta sign(e)


class Pairs(NamedTuple):
    """Gradients by the two vectors of each pair, (N, D) each."""

    left: Tensor
    right: Tensor


def contrastive(left: Tensor, right: Tensor, same: Tensor, margin: float = 1.0) -> tuple[Tensor, Pairs]:
    """Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006, eq. 4; mean of pairs.

    (N, D), (N, D), `same` (N,) of bool (the paper's Y is 0 for similar pairs). Different pairs are pushed apart up to
    `margin`, and not at all from the very same point, where there is no direction to push in.
    """
    gap = left - right
    d = gap.norm(dim=-1)  # D = ||a - b||
    short = (margin - d).clamp(min=0)  # what a different pair lacks
    loss = torch.where(same, d**2, short**2).sum() / (2 * len(d))  # 1/2 D^2, or 1/2 max(0, m - D)^2
    push = short / torch.where(d > 0, d, torch.inf)
    error = torch.where(same, 1.0, -push)[:, None] * gap / len(d)  # a - b, or -(m - D) (a - b) / D
    return loss, Pairs(error, -error)


class Triplets(NamedTuple):
    """Gradients by anchor, positive and negative, (N, D) each."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.2, squared: bool = True
) -> tuple[Tensor, Triplets]:
    """Schroff, Kalenichenko, Philbin, "FaceNet", 2015, arXiv:1503.03832, eq. 2 and 3, there a sum; here a mean.

    `squared=False` compares distances, as torch's TripletMarginLoss does (which adds 1e-6 to each difference).
    """
    near, away = anchor - positive, anchor - negative
    d_near, d_away = near.norm(dim=-1, keepdim=True), away.norm(dim=-1, keepdim=True)
    power = 2 if squared else 1
    lack = d_near**power - d_away**power + margin
    scale = (lack > 0).to(lack.dtype) / len(anchor)  # max(0, .) lets nothing through where the margin is kept
    if squared:
        by_near, by_away = 2 * near * scale, 2 * away * scale  # d||x||^2 = 2 x
    else:
        by_near = near / torch.where(d_near > 0, d_near, torch.inf) * scale  # d||x|| = x / ||x||
        by_away = away / torch.where(d_away > 0, d_away, torch.inf) * scale
    loss = lack.clamp(min=0).sum() / len(anchor)  # max(0, d(a, p) - d(a, n) + m)
    return loss, Triplets(by_near - by_away, -by_near, by_away)
