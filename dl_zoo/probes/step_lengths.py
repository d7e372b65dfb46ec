"""How long are an optimizer's steps where the gradient never changes?

The answer of each rule to gradients of one size g, in units of the rate eta (see `from_scratch.update_rules`):

    gradient descent                     g                                    the t-th step as long as the first
    AdaGrad                              sign(g) / sqrt(t)                    Duchi, Hazan, Singer 2011
    RMSprop                              sign(g) / sqrt(1 - alpha^t)          Tieleman, Hinton 2012
    Adam                                 sign(g)                              Kingma, Ba 2015, section 2.1
    Adam without bias correction         sign(g) (1 - beta_1^t) / sqrt(1 - beta_2^t)      section 3

but for epsilon, which shortens a step by about epsilon / |g| of its length.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS

from dl_zoo.errors import UserError


def step_lengths(
    task: Any, data: Any, *, gradients: Sequence[float] = (1e-3, -1.0, 1e3), steps: int = 100, early: int = 10
) -> dict[str, float]:
    """Of the run's own optimizer over parameters that have nothing to do with its net, one for each of `gradients`:

        step_lengths/first/1 ..    -(w_1 - w_0) / eta, of the first gradient, the second, ...
        step_lengths/last/1 ..     the same of the step number `steps`
        step_lengths/shrunk/1 ..   the last step over the first
        step_lengths/early/1 ..    the largest of the first `early` steps

    The parameters start at 0 and are in double precision, so that it is the rule that is measured.

    Raises:
        UserError: a gradient of 0, fewer steps than `early`, or an optimizer that has no answer to a gradient alone.
    """
    if not gradients or not all(gradients):
        raise UserError(f"gradients={[*gradients]}: name one at least, none of them 0")
    if not 1 <= early <= steps:
        raise UserError(f"early={early}, steps={steps}: must be at least 1, and in this order")
    weight = nn.Parameter(torch.zeros(len(gradients), dtype=torch.float64))
    if hasattr(task.make_optimizer, "of"):
        raise UserError("rates that depend on the place in the net have no meaning without one; leave out lr_factors")
    optimizer = task.optimizer_over([weight])
    if isinstance(optimizer, LBFGS):
        raise UserError("optimizer=lbfgs asks for the loss at many places, and here there is a gradient alone")
    weight.grad = torch.tensor([*gradients], dtype=torch.float64)
    walked = [weight.detach().clone()]
    for _ in range(steps):
        optimizer.step()
        walked.append(weight.detach().clone())
    lengths = -torch.stack(walked).diff(dim=0) / optimizer.param_groups[0]["lr"]  # (steps, gradients)
    found = {
        "first": lengths[0],
        "last": lengths[-1],
        "shrunk": lengths[-1] / lengths[0],
        "early": lengths[:early].abs().amax(0),
    }
    return {
        f"step_lengths/{name}/{place}": float(value)
        for name, values in found.items()
        for place, value in enumerate(values, start=1)
    }
