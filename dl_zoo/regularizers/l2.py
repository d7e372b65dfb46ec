"""L2, or ridge: a penalty on the squared weights (Hoerl and Kennard 1970; Krogh and Hertz 1991 for nets).

Its gradient is 2 * strength * w. Under plain SGD that equals weight decay of 2 * strength; under Adam it does not,
since the penalty's gradient is divided by the second moment too (Loshchilov and Hutter 2019, arXiv:1711.05101).
"""

import torch
from torch import Tensor, nn


def l2(net: nn.Module, strength: float) -> Tensor:
    """strength * sum of squares over all weights; biases and norm scales (one dimension) are left out."""
    return strength * torch.stack([p.square().sum() for p in net.parameters() if p.dim() > 1]).sum()
