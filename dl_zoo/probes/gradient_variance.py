"""How much the gradient of a minibatch varies: a B-th of what the gradient of one item does.

Bottou, Curtis, Nocedal, "Optimization Methods for Large-Scale Machine Learning", 2018, SIAM Review 60(2),
arXiv:1606.04838, section 4.2. A batch of B items drawn with replacement has the gradient g_B = 1/B sum_b g_(i_b), a
mean of independent draws of the N items' gradients g_i, so with g their mean, the full gradient,

    E g_B = g,    tr Var g_B = 1/B tr Var g_1,    tr Var g_1 = 1/N sum_i |g_i - g|^2

Drawn without replacement, as an epoch's batches are, it is less by (N - B) / (N - 1).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items
from dl_zoo.probes.gradient_flow import copied


def gradient_variance(
    task: Any,
    data: Any,
    *,
    sizes: Sequence[int] = (1, 4, 16, 64, 256, 1024),
    draws: int = 200,
    items: int = 1000,
    repeated: bool = False,
) -> dict[str, float]:
    """Of the gradient by all weights of the mean loss of batches drawn from the first `items` training items:

        gradient_variance/0001, ...   B tr Var g_B / tr Var g_1 for each B of `sizes`, from `draws` batches; g_1's exact
        gradient_variance_off         the largest distance of one of these from 1
        gradient_variance_apart       the largest distance of the mean of g_B from g, in standard errors; 1 by chance

    On a copy of the net in float64 and in evaluation, so that an item's gradient is the same in every batch.

    Args:
        repeated: batches are one item B times: as large, but no more is known.
    Raises:
        UserError: numbers out of bounds, or a loss that is no mean over items.
    """
    if not sizes or min(sizes) < 1 or draws < 2:
        raise UserError(f"sizes={[*sizes]}, draws={draws}: sizes of at least 1, and at least 2 draws of each")
    inputs, targets = first_items(data, items, next(task.net.parameters()).device)
    if not inputs.is_floating_point():
        raise UserError("gradient_variance asks for inputs that are numbers, and these data have others")
    inputs, everything = inputs.double(), torch.arange(len(inputs), device=inputs.device)
    with copied(task, torch.float64) as net, torch.enable_grad():
        net.eval()
        weights = [parameter for parameter in net.parameters() if parameter.requires_grad]

        def gradient(rows: Tensor) -> Tensor:
            loss = task.measure((inputs[rows], targets[rows])).loss
            return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, materialize_grads=True)])

        full = gradient(everything)
        offset, variance = around(full, map(gradient, everything.split(1)))
        if not offset <= 1e-6 * (full.norm() + variance.sqrt()):
            raise UserError("gradient_variance asks for a loss that is a mean over items, and this one is not")
        found, apart = {}, []
        for size in sizes:
            batches = (drawn(everything, size, repeated) for _ in range(draws))
            offset, spread = around(full, map(gradient, batches))
            found[f"gradient_variance/{size:04d}"] = float(size * spread / variance)
            apart.append(float(offset / (spread / draws).sqrt()))
    off = max(abs(ratio - 1) for ratio in found.values())
    return {**found, "gradient_variance_off": off, "gradient_variance_apart": max(apart)}


def around(centre: Tensor, vectors: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """How far their mean is from `centre`, and their mean squared distance from it: tr Var, where it is their mean."""
    total, squares, count = torch.zeros_like(centre), centre.new_zeros(()), 0
    for vector in vectors:
        total, squares, count = total + (vector - centre), squares + (vector - centre).square().sum(), count + 1
    return (total / count).norm(), squares / count


def drawn(items: Tensor, size: int, repeated: bool) -> Tensor:
    """A batch, with replacement: each of its items anew, or one for all."""
    rows = torch.randint(len(items), (1 if repeated else size,)).expand(size)
    return items[rows.to(items.device)]
