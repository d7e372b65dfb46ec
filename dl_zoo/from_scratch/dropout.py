"""Dropout: in training each unit is left out with probability p, anew for each example.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: A Simple Way to Prevent Neural Networks from
Overfitting", 2014, JMLR 15, section 4. The paper keeps units with probability p and multiplies the weights by p at test
time. Here, as in torch, p is the rate that is left out, and what stays is divided by 1 - p while training ("inverted",
section 10), so that the mean is that of the whole net, and nothing is left to do at test time.
"""

import torch
from torch import Generator, Tensor


def mask_of(x: Tensor, p: float, generator: Generator) -> Tensor:
    """Like x: 0 with probability p, else 1 / (1 - p), so that its mean is 1. ValueError: p is not in 0..1, 1 excluded.

    >>> mask_of(torch.zeros(6), 0.5, Generator().manual_seed(0)).unique()
    tensor([0., 2.])
    """
    if not 0 <= p < 1:
        raise ValueError(f"p={p}: must be at least 0 and below 1")
    kept = torch.rand(x.shape, generator=generator, dtype=x.dtype) >= p  # r ~ Bernoulli(1 - p)
    return kept.to(x.dtype) / (1 - p)


def dropout(x: Tensor, mask: Tensor) -> Tensor:
    return x * mask  # y = r * x / (1 - p)


def dropout_backward(error: Tensor, mask: Tensor) -> Tensor:
    """From dL/dy to dL/dx, with the mask of the way forwards: what was left out has no part in the loss."""
    return error * mask  # dL/dx = dL/dy * r / (1 - p)
