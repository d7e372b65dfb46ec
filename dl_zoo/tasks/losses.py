"""What a classifier's outputs can be judged by: f(outputs (B, K), targets) -> mean loss, a scalar.

Targets are classes (B,) int64, where -100 is left out of the mean, or class probabilities (B, K) (mixed pictures).
With p the probabilities, one-hot for a class, s = 1 / (1 + exp(-z)), and z the outputs:

    cross_entropy  - sum_k p_k log softmax(z)_k
    bce            - mean_k [p_k log s_k + (1 - p_k) log(1 - s_k)]: K yes-or-no questions
    mse            mean_k (z_k - p_k)^2: the outputs themselves, no softmax before (Hui and Belkin 2021,
                   arXiv:2006.07322, find this square loss as good as cross entropy on many tasks)
    huber          mean_k of (z_k - p_k)^2 / 2 up to |z_k - p_k| = 1, linear beyond (Huber 1964, eq. 1 there):
                   an outlier pulls with bounded force

Two losses make the outputs an embedding instead: equal classes near, others far. Both compare all items of a batch.

    contrastive    mean over pairs of d^2 / 2 for equal classes, max(0, m - d)^2 / 2 for others
                   (Hadsell, Chopra, LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping", eq. 4)
    triplet        mean over anchors of max(0, m + farthest equal - nearest other)
                   (Schroff, Kalenichenko, Philbin 2015, arXiv:1503.03832, eq. 3, in the batch-hard form of Hermans,
                   Beyer, Leibe 2017, arXiv:1703.07737, eq. 5: plain distances, the hardest of each kind)
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
POINTWISE: dict[str, Callable[..., Tensor]] = {  # of outputs and probabilities, both (B, K)
    "bce": F.binary_cross_entropy_with_logits,
    "mse": F.mse_loss,
    "huber": F.huber_loss,
}


def cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(outputs, targets, ignore_index=IGNORED, label_smoothing=smoothing)


def pointwise(name: str, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """One of `POINTWISE` against probabilities (1 - smoothing) p + smoothing / K."""
    p = probabilities(targets, outputs.shape[1]).to(outputs.dtype)
    p = (1 - smoothing) * p + smoothing / outputs.shape[1]
    each = POINTWISE[name](outputs, p, reduction="none").mean(1)  # (B,)
    return mean_over(each, counted(targets))


def contrastive(outputs: Tensor, targets: Tensor, margin: float) -> Tensor:
    equal, other = relations(targets)
    distance = torch.cdist(outputs, outputs)  # (B, B)
    loss = torch.where(equal, distance.square(), (margin - distance).clamp(min=0).square()) / 2
    return mean_over(loss, equal | other)


def triplet(outputs: Tensor, targets: Tensor, margin: float) -> Tensor:
    equal, other = relations(targets)
    distance = torch.cdist(outputs, outputs)  # (B, B)
    farthest = distance.masked_fill(~equal, 0).amax(1)  # (B,)
    nearest = distance.masked_fill(~other, torch.inf).amin(1)
    return mean_over((margin + farthest - nearest).clamp(min=0), equal.any(1) & other.any(1))


def votes(outputs: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Embeddings (B, D) -> (B, classes), one-hot: the class of each item's nearest neighbour among the others.

    A row of zeros for an item that has no others.
    """
    distance = torch.cdist(outputs, outputs).fill_diagonal_(torch.inf)
    nearest, neighbour = distance.masked_fill(~counted(targets), torch.inf).min(1)
    return probabilities(targets[neighbour], classes) * nearest.isfinite()[:, None]


def log_of_probabilities(outputs: Tensor) -> Tensor:
    """Scores whose softmax is the outputs' positive part, brought to sum 1; in the outputs' own order."""
    return (outputs.clamp(min=0) + 1e-6 * outputs.sigmoid()).log()


def probabilities(targets: Tensor, classes: int) -> Tensor:
    """(B, K): of classes one-hot, of probabilities themselves; of what is left out that of class 0."""
    return targets if targets.is_floating_point() else F.one_hot(targets.clamp(min=0), classes).float()


def counted(targets: Tensor) -> Tensor:
    """(B,) bool: which items are not left out."""
    return torch.ones_like(targets[:, 0], dtype=torch.bool) if targets.is_floating_point() else targets != IGNORED


def relations(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs (B, B) are two items of the same class, and which of two classes."""
    if targets.is_floating_point():
        raise ValueError("pairs of items need one class each, not class probabilities")
    both = counted(targets)[:, None] & counted(targets)
    same = targets[:, None] == targets
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    return both & same & ~itself, both & ~same


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values; 0, with its gradient, where there are none. No value is read on the host."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)
