"""The slope of a net's own activation: where it is largest, and what is left of it far out.

Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, AISTATS, section 3:
a unit whose sum is far from 0 saturates, since

    sigmoid'(z) = s (1 - s)          at most 1/4, far out exp(-|z|)
    tanh'(z)    = 1 - tanh(z)^2      at most 1, far out 4 exp(-2|z|)

A rectifier (Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", 2010) keeps slope 1 for
z > 0 and has 0 below; its leaky and exponential kin have some below, too.
"""

from typing import Any

import torch

from dl_zoo.errors import UserError


def slopes(task: Any, data: Any, *, bound: float = 10.0, points: int = 2001) -> dict[str, float]:
    """Of f = `task.net.activation`, f'(z) by differentiation in float64, z on `points` even steps from -bound to bound:

        slopes/largest           the largest |f'(z)|
        slopes/peak              the |z| where it is; of several the least
        slopes/far, far_below    f'(bound), f'(-bound)
        slopes/positive_least, positive_largest, negative_largest    over z > 0, and over z < 0 the largest |f'(z)|

    Raises:
        UserError: a net without an activation of its own, a grid that does not hold 0, or no bound.
    """
    if points < 3 or points % 2 == 0 or not bound > 0:
        raise UserError(f"bound={bound}, points={points}: must be above 0, and odd and at least 3, so that 0 is one")
    activation = getattr(task.net, "activation", None)
    if not callable(activation):
        raise UserError("slopes asks for the activation of a net, and this one has none by that name; model=mlp")
    half = torch.arange(1, points // 2 + 1, dtype=torch.float64) * bound / (points // 2)
    with torch.enable_grad():
        z = torch.cat([-half.flip(0), torch.zeros(1, dtype=torch.float64), half]).requires_grad_()
        (slope,) = torch.autograd.grad(activation(z).sum(), z)
    above, size = slope[points // 2 + 1 :], slope.abs()
    found = {
        "largest": size.max(),
        "peak": z.detach().abs()[size == size.max()].min(),
        "far": slope[-1],
        "far_below": slope[0],
        "positive_least": above.min(),
        "positive_largest": above.max(),
        "negative_largest": size[: points // 2].max(),
    }
    return {f"slopes/{name}": float(value) for name, value in found.items()}
