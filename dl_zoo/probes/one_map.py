"""Is a net one linear map? Without a nonlinearity between them any number of layers is.

Rumelhart, Hinton, Williams, "Learning Internal Representations by Error Propagation", 1986, in Parallel Distributed
Processing 1, chapter 8: with linear units hidden layers add nothing, since

    V (W_2 (W_1 x + b_1) + b_2) + c = A x + a,    A = V W_2 W_1,    a = V (W_2 b_1 + b_2) + c

Strictly the map is affine. A and a are not read off the weights but asked of the net, by its answers to the vectors of
the basis, e_i: a = f(0), A e_i = f(e_i) - a. So any net that takes numbers can be asked.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.probes.gradient_flow import copied

CHUNK = 256  # vectors at a time


@torch.no_grad()
def one_map(task: Any, data: Any, *, items: int = 256) -> dict[str, float]:
    """How far the net is from the one affine map that agrees with it on the basis, in float64 and in evaluation:

        one_map/difference   largest |f(x) - (A x + a)| / |A x|, x each of `items` normal draws, with Euclidean norms

    Relative to what depends on x: in a deep net a may be all that is left of the answer.

    Raises:
        UserError: no items, inputs that are no numbers, or a net that answers with more than one tensor of scores.
    """
    if items < 1:
        raise UserError(f"items={items}: must be at least 1")
    inputs, _ = next(iter(data.loader("val")))
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise UserError("one_map asks for inputs that are numbers, one tensor of them, and these data have others")
    shape, device = inputs.shape[1:], next(task.net.parameters()).device
    with copied(task, torch.float64) as net:
        net.eval()
        basis = torch.eye(shape.numel(), dtype=torch.float64, device=device)
        a = answers(net, torch.zeros_like(basis[:1]), shape)
        columns = answers(net, basis, shape) - a  # (F, K): A transposed
        x = torch.randn(items, len(basis), dtype=torch.float64).to(device)
        linear = x @ columns  # (items, K)
        apart = answers(net, x, shape) - a - linear
    return {"one_map/difference": float((apart.norm(dim=1) / linear.norm(dim=1)).max())}


def answers(net: nn.Module, rows: Tensor, shape: torch.Size) -> Tensor:
    """The net's answers to flat inputs (N, F): (N, K)."""
    found = [net(some.unflatten(1, shape)) for some in rows.split(CHUNK)]
    if not all(isinstance(each, Tensor) for each in found):
        raise UserError("one_map asks a net that answers with one tensor, and this one does not")
    return torch.cat([each.flatten(1) for each in found])
