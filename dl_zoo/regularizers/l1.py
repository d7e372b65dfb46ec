"""L1, or lasso: a penalty on the absolute weights, which leaves a sparse net.

Tibshirani, "Regression Shrinkage and Selection via the Lasso", J. R. Statist. Soc. B 58(1), 1996, pages 267-288.

Its gradient is strength * sign(w): the pull does not fade near zero as that of L2 does, so a weight that the data hold
with less than `strength` ends there. The lasso's own solution has exact zeros (eq. 3, soft thresholding). Subgradient
descent never stops on them: such a weight steps over zero and back, within about lr * strength of it. Read sparsity
by a threshold above that, or let the learning rate fall.
"""

import torch
from torch import Tensor, nn


def l1(net: nn.Module, strength: float) -> Tensor:
    """strength * sum of |w| over all weights; biases and norm scales (one dimension) are left out."""
    return strength * torch.stack([p.abs().sum() for p in net.parameters() if p.dim() > 1]).sum()
