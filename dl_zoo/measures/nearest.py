"""Were the training pictures learnt by heart? How near samples are to them, beside how near unseen real pictures are.

After Meehan, Chaudhuri, Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative Models", 2020,
arXiv:2004.05675: samples that lie nearer to the training set than a test set does were copied from it. In pixels, where
a copy is a copy; but blur draws any picture nearer to all others, so a number somewhat below 1 is no proof.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def nearness(made: Tensor, held_out: Tensor, training: Iterable[Tensor]) -> float:
    """Mean distance from samples (N, ...) to their nearest training item, over that of unseen real ones (M, ...).

    0: all are copies; 1: they keep the distance that unseen ones keep. `training`: batches (B, ...), each gone through
    once. NaN where the unseen ones are themselves among the training items.

    >>> nearness(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]]), [torch.zeros(3, 2)])
    0.5
    """
    queries = torch.cat([made, held_out]).flatten(1).float()
    distances = to_nearest(queries, training)
    beside = distances[len(made) :].mean()
    return float(distances[: len(made)].mean() / beside) if beside > 0 else float("nan")


def to_nearest(queries: Tensor, items: Iterable[Tensor]) -> Tensor:
    """(Q, F) -> (Q,): Euclidean distances to the nearest of all items, of batches (B, ...).

    Candidates are found by a product of matrices, which loses digits; the distance to the one found is exact.
    """
    least = queries.new_full((len(queries),), torch.inf)  # squared
    nearest = torch.zeros_like(queries)
    for batch in items:
        rows = batch.flatten(1).to(queries)
        squared = (rows**2).sum(1) - 2 * queries @ rows.T  # (Q, B), without |query|^2, which is the same for all
        best, index = squared.min(1)
        nearer = best < least
        least = torch.where(nearer, best, least)
        nearest = torch.where(nearer[:, None], rows[index], nearest)
    return (queries - nearest).norm(dim=1)
