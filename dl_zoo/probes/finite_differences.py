"""The gradient without backpropagation: move each weight a little, and ask for the loss again.

Bishop, "Neural Networks for Pattern Recognition", 1995, section 4.8.1: central differences

    dL/dw_i = [L(w + h e_i) - L(w - h e_i)] / 2h + O(h^2)

need two forward passes a weight, 2 P in all, where backpropagation needs one forward and one backward. So they check
gradients, and train nothing. One-sided ones, [L(w + h e_i) - L(w)] / h, are off by O(h).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items
from dl_zoo.probes.gradient_flow import copied


@torch.no_grad()
def finite_differences(
    task: Any, data: Any, *, items: int = 16, step: float = 1e-5, most: int = 2000, one_sided: bool = False
) -> dict[str, float]:
    """Of the mean loss of the first `items` training items, by all P weights that train, in float64 and in evaluation:

        finite_differences/parameters   P
        finite_differences/passes       forward passes that the differences took, counted
        finite_differences/apart        largest |difference - gradient| over the largest |gradient|, by backpropagation

    Args:
        step: h.
        most: weights that the net may have, since each costs two passes.
        one_sided: L(w + h e_i) - L(w), over h.
    Raises:
        UserError: too many weights, no step, or a net whose task does not call it as a whole.
    """
    count = sum(each.numel() for each in task.net.parameters() if each.requires_grad)
    if not step > 0 or count > most:
        raise UserError(f"step={step}, most={most}: must be above 0, and as many as this net has weights, {count}")
    inputs, targets = first_items(data, items, next(task.net.parameters()).device)
    batch = (inputs.double() if inputs.is_floating_point() else inputs, targets)
    passes: list[None] = []
    with copied(task, torch.float64) as net:
        net.eval()
        weights = [each for each in net.parameters() if each.requires_grad]
        with torch.enable_grad():
            exact = flat(torch.autograd.grad(task.measure(batch).loss, weights, materialize_grads=True))
        net.register_forward_hook(lambda *_: passes.append(None))

        def loss() -> float:
            return float(task.measure(batch).loss)

        found = [difference(loss, w.view(-1), place, step, one_sided) for w in weights for place in range(w.numel())]
    if not passes:
        raise UserError("finite_differences counts calls of a net, and this task calls parts of its own only")
    apart = (exact.new_tensor(found) - exact).abs().max() / exact.abs().max()
    numbers = {"parameters": count, "passes": len(passes), "apart": apart}
    return {f"finite_differences/{name}": float(value) for name, value in numbers.items()}


def flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([each.flatten() for each in tensors])


def difference(loss: Callable[[], float], w: Tensor, place: int, step: float, one_sided: bool) -> float:
    """dL/dw at one place of w (n,), which is put back."""
    kept = w[place].clone()
    w[place] = kept + step
    above = loss()
    w[place] = kept if one_sided else kept - step
    below = loss()
    w[place] = kept
    return (above - below) / (step if one_sided else 2 * step)
