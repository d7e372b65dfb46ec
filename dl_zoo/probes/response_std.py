"""How strongly the layers of a net respond: the smaller, the nearer each is to changing nothing.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385, section 4.2, "Analysis of
Layer Responses", and figure 7: the standard deviation of what each 3x3 layer gives, after batch norm and before the
nonlinearity or the addition. Residual nets respond less than plain ones, and deeper residual nets less still.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items


@torch.no_grad()
def response_std(task: Any, data: Any, *, items: int = 512) -> dict[str, float]:
    """Of each batch norm that follows a 3x3 convolution, numbered 01, 02, ... as they are called:

        response_std/01 ..     standard deviation over the first `items` training items, all channels and places
        response_std_mean      over these layers

    In evaluation: norms use the statistics that training left. Untrained ones have none, and are not asked.

    Raises:
        UserError: no batch norm after a 3x3 convolution.
    """
    inputs, _ = first_items(data, items, next(task.net.parameters()).device)
    found = responses(task.net, inputs)
    if not found:
        raise UserError("this net has no batch norm after a 3x3 convolution")
    digits = max(2, len(str(len(found))))
    numbered = {f"response_std/{place:0{digits}}": value for place, value in enumerate(found, start=1)}
    return {**numbered, "response_std_mean": sum(found) / len(found)}


def responses(net: nn.Module, inputs: Tensor) -> list[float]:
    """In the order of calls: the standard deviation of each batch norm whose convolution is 3x3."""
    found: list[float] = []
    last: nn.Conv2d | None = None

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal last
        if isinstance(module, nn.Conv2d):
            last = module
        elif last is not None and tuple(last.kernel_size) == (3, 3):
            found.append(float(output.double().std(correction=0)))

    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    try:
        net.eval()(inputs)
    finally:
        for each in hooks:
            each.remove()
    return found
