"""mixup: train on what lies between two examples, so that the net behaves linearly there.

Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412, section 2:

    x = lambda x_i + (1 - lambda) x_j,    y = lambda y_i + (1 - lambda) y_j,    lambda ~ Beta(alpha, alpha)

with one lambda a batch, and the batch itself, shuffled, as the second examples.
"""

import math

import torch
from torch import Generator, Tensor

from dl_zoo.errors import UserError


def mixup(inputs: Tensor, targets: Tensor, generator: Generator, alpha: float) -> tuple[Tensor, Tensor]:
    """Inputs (B, ...) of floats and targets (B, K) of probabilities, each mixed with those of a random partner.

    The draws are the generator's, on the CPU; the tensors may be elsewhere. UserError unless alpha is above 0.

    >>> inputs, targets = torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(3)
    >>> mixed, shares = mixup(inputs, targets, Generator().manual_seed(0), alpha=1.0)
    >>> torch.allclose(mixed, shares @ inputs), shares.sum(1)
    (True, tensor([1., 1., 1.]))
    """
    share = beta(alpha, generator)
    partner = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    return inputs[partner].lerp(inputs, share), targets[partner].lerp(targets, share)


def beta(alpha: float, generator: Generator) -> float:
    """One draw of Beta(alpha, alpha), as G / (G + G') of two gamma variates: U-shaped below 1, uniform at 1.

    `torch.distributions` takes no generator, so this calls what it calls. Double precision, since of alpha = 0.01 four
    gammas in ten are below the least single, and two of those would make 1/2.
    """
    if not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise UserError(
            f"regularizer: alpha={alpha}: must be a number above 0; to train without mixing, leave the regularizer out"
        )
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return first / (first + second)
