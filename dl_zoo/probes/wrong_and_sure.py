"""What a loss tells a net that is wrong and sure of it: by cross-entropy nearly all, by squared error next to nothing.

Solla, Levin, Fleisher, "Accelerated Learning in Layered Neural Networks", 1988, Complex Systems 2. With p = sigmoid(z)
and the target 1, the gradients by z are

    L = -log p       dL/dp p (1 - p) = p - 1                  near -1 where p is near 0
    L = (p - 1)^2    dL/dp p (1 - p) = -2 (1 - p)^2 p         near -2 p: the unit's own slope takes it away
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items
from dl_zoo.probes.gradient_flow import copied

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # of outputs and targets: the loss, and its slope by outputs
Function = Callable[[Tensor], Tensor]


def wrong_and_sure(
    task: Any,
    data: Any,
    *,
    loss: str,
    losses: Mapping[str, Loss],
    output: Function,
    slope: Function,
    logit: float = -10.0,
    lr: float = 0.03,
    most: int = 2000,
) -> dict[str, float]:
    """The net's first answer for the first training item is moved to `logit` by a constant; the target is 1. Then

        wrong_and_sure/gradient   |dL/dz| there, L the one of `losses` named `loss`, of p = `output`(z) with `slope`(z)
        wrong_and_sure/steps      of gradient descent on this item at rate `lr` until z > 0; `most` if that takes longer

    On a copy of the net, in float64 and in evaluation.

    Raises:
        UserError: no such loss, a logit that is not wrong, numbers out of bounds, or a net without a row of answers.
    """
    if loss not in losses:
        raise UserError(f"loss={loss}: must be {' or '.join(losses)}")
    if not logit < 0 or not lr > 0 or most < 1:
        raise UserError(f"logit={logit}, lr={lr}, most={most}: must be below 0, above 0 and at least 1")
    x, _ = first_items(data, 1, next(task.net.parameters()).device)
    with copied(task, torch.float64) as net, torch.enable_grad():
        net.eval()
        x = x.double() if x.is_floating_point() else x
        shift = logit - first_answer(net, x).detach()

        def error(z: Tensor) -> Tensor:
            p = output(z)
            return losses[loss](p, torch.ones_like(p))[1] * slope(z)  # dL/dz = dL/dp dp/dz

        at_start = error(shift.new_tensor([logit]))
        steps = steps_until_right(net, lambda: first_answer(net, x) + shift, error, lr, most)
    return {"wrong_and_sure/gradient": float(at_start.abs()), "wrong_and_sure/steps": float(steps)}


def first_answer(net: nn.Module, x: Tensor) -> Tensor:
    """(1,): the first of the net's answers for one item. UserError: it does not answer with one tensor (1, K)."""
    answers = net(x)
    if not isinstance(answers, Tensor) or answers.ndim != 2:
        raise UserError("wrong_and_sure asks a net that answers with a row of scores, and this one does not")
    return answers[0, :1]


def steps_until_right(net: nn.Module, z: Callable[[], Tensor], error: Function, lr: float, most: int) -> int:
    """w <- w - lr dL/dz dz/dw until z() > 0: how often, at most `most` times."""
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for step in range(most):
        now = z()
        if now > 0:
            return step
        gradients = torch.autograd.grad(now, weights, error(now.detach()), materialize_grads=True)
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w.sub_(lr * g)
    return most
