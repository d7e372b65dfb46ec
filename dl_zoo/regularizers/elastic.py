"""Elastic net: L1's sparsity and L2's grouping, under which inputs that say the same share one weight evenly.

Zou, Hastie, "Regularization and Variable Selection via the Elastic Net", J. R. Statist. Soc. B 67(2), 2005,
section 2: the naive elastic net; grouping is section 2.3. Under L1 alone any split of the weight costs the same.

Departure: the paper mixes (1 - alpha) |w| + alpha w^2. Here mix is L1's share and the square is halved, as in Friedman,
Hastie, Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent", J. Stat. Softw. 33(1),
2010, section 2, so that the gradient is strength * (mix * sign(w) + (1 - mix) * w).
"""

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError


def elastic(net: nn.Module, strength: float, mix: float) -> Tensor:
    """strength * sum of (mix * |w| + (1 - mix) / 2 * w^2) over all weights; biases and norm scales are left out.

    `mix` 1 is L1, 0 is L2 at half its strength. UserError outside of 0..1, where a term would reward large weights.
    """
    if not isinstance(mix, int | float) or not 0 <= mix <= 1:
        raise UserError(f"regularizer.elastic.mix={mix}: must be a number from 0 (L2 alone) to 1 (L1 alone)")
    weights = [p for p in net.parameters() if p.dim() > 1]
    absolute = torch.stack([w.abs().sum() for w in weights]).sum()
    squared = torch.stack([w.square().sum() for w in weights]).sum()
    return strength * (mix * absolute + (1 - mix) / 2 * squared)
