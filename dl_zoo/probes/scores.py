"""What a layer of attention makes of queries and keys of unit variance.

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 3.2.1 and footnote 4. Components of q and k
that are independent, of mean 0 and variance 1, give q.k the variance d_k. Large scores drive the softmax to where one
weight is 1, and its gradient

    dL/dz_s = w_s (dL/dw_s - sum over r of w_r dL/dw_r),   w = softmax(z),

is 0 there. Hence z = q.k / sqrt(d_k), of variance 1.
"""

import math
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError


@torch.no_grad()
def scores(task: Any, data: Any, *, positions: int = 64, items: int = 64) -> dict[str, float]:
    """Of the net's first layer of attention, given q, k, v ~ N(0, 1) at `positions` positions of `items` sequences:

        scores/variance       of the scores z that its softmax was given, mean over the queries
        scores/per_width      the same over d_k
        scores/largest        mean over the queries of the greatest weight
        scores/log_gradient   log10 of the median over the queries of |dL/dz|, where dL/dw ~ N(0, 1)

    In float64. Scores are read off the weights, as their logarithms but for a constant a query, so that the layer's
    own scale is in them. The median, since a mean of gradients lives by the few queries that stand between two keys.

    Raises:
        UserError: fewer than 2 positions or 1 sequence, or a net without such a layer.
    """
    if positions < 2 or items < 1:
        raise UserError(f"positions={positions}, items={items}: must be at least 2 and 1")
    layer = next((each for each in task.net.modules() if hasattr(each, "attend") and hasattr(each, "maps")), None)
    if layer is None:
        raise UserError("scores: this net has no attention")
    width = layer.query.out_features // layer.heads
    weights = weights_of(layer, torch.randn(3, items, layer.heads, positions, width, dtype=torch.float64))
    variance = float(weights.log().var(3).mean())
    return {
        "scores/variance": variance,
        "scores/per_width": variance / width,
        "scores/largest": float(weights.amax(3).mean()),
        "scores/log_gradient": math.log10(float(gradient(weights).norm(dim=3).median())),
    }


def weights_of(layer: Any, drawn: Tensor) -> Tensor:
    """(3, B, H, S, d) to the layer's weights (B, H, S, S) of the first as queries and the second as keys."""
    layer.maps = []
    try:
        layer.attend(*drawn, None, False)
        weights: Tensor = layer.maps[0]
        return weights
    finally:
        layer.maps = None


def gradient(weights: Tensor) -> Tensor:
    """dL/dz for a drawn dL/dw.

    >>> gradient(torch.tensor([[1.0, 0.0]])).abs().tolist()
    [[0.0, 0.0]]
    """
    passed = torch.randn_like(weights)
    return weights * (passed - (weights * passed).sum(-1, keepdim=True))
