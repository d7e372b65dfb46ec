"""How many modes of a mixture of Gaussians are covered, and how many samples lie near one.

Srivastava, Valkov, Russell, Gutmann, Sutton, "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational
Learning", 2017, arXiv:1705.07761, section 4: of 2,500 samples one is of high quality within three standard deviations
of a mode. A mode counts from 20 such samples on.
"""

import torch
from torch import Tensor

DEVIATIONS = 3
LEAST = 20 / 2500  # of the samples


def modes_covered(points: Tensor, modes: Tensor, deviation: float) -> dict[str, float]:
    """Of points (N, 2) and modes (K, 2): `modes`, how many are covered, and `high_quality`, the share near any.

    >>> modes_covered(torch.tensor([[0.0, 0.0], [0.1, 0.0], [9.0, 9.0]]), torch.tensor([[0.0, 0.0], [5.0, 5.0]]), 0.1)
    {'modes': 1.0, 'high_quality': 0.6666666666666666}
    """
    distance, nearest = torch.cdist(points, modes.to(points)).min(1)
    good = distance <= DEVIATIONS * deviation
    counts = nearest[good].bincount(minlength=len(modes))
    covered = counts >= max(1, LEAST * len(points))
    return {"modes": float(covered.sum()), "high_quality": float(good.double().mean())}
