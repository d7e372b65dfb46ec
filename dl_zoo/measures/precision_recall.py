"""Precision and recall of what was made up: is it like something real, and is there something like all that is real?

Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved Precision and Recall Metric for Assessing Generative Models",
2019, arXiv:1904.06991, section 2. A cloud of features is taken for the union of balls, one around each of its points,
that reach to the point's k-th nearest neighbour in the cloud (k = 3). Precision is the share of samples inside the real
ones' balls, recall the share of real ones inside the samples' balls.

One real outlier has a ball that holds much of the space, so precision can be 1 of plain noise: read it beside the
distance (Naeem, Oh, Uh, Choi, Yoo, "Reliable Fidelity and Diversity Metrics for Generative Models", 2020,
arXiv:2002.09797, section 3).
"""

import torch
from torch import Tensor

NEIGHBOURS = 3  # the paper's
ROWS = 1000  # of distances at once


def precision_recall(real: Tensor, made: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Of features (N, F) and (M, F), as fractions. ValueError where there are not more rows than neighbours.

    >>> grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    >>> precision_recall(grid, grid), precision_recall(grid, grid + 100)
    ((1.0, 1.0), (0.0, 0.0))
    """
    return share_inside(made, real, neighbours), share_inside(real, made, neighbours)


def share_inside(points: Tensor, cloud: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """How many of the points (N, F) lie in a ball of the cloud (M, F), as a fraction."""
    if len(cloud) <= neighbours:
        raise ValueError(f"{len(cloud)} item(s) have no neighbour number {neighbours}; it takes more")
    radii = reach(cloud, neighbours)  # (M,)
    inside = [(torch.cdist(some, cloud, compute_mode=EXACT) <= radii).any(1) for some in points.split(ROWS)]
    return float(torch.cat(inside).double().mean())


def reach(cloud: Tensor, neighbours: int) -> Tensor:
    """(M, F) -> (M,): how far each point's k-th nearest other is; the nearest of all is itself."""
    distances = (torch.cdist(some, cloud, compute_mode=EXACT) for some in cloud.split(ROWS))
    return torch.cat([rows.kthvalue(neighbours + 1, dim=1).values for rows in distances])


EXACT = "donot_use_mm_for_euclid_dist"  # by a product of matrices a point is not at 0 from itself
