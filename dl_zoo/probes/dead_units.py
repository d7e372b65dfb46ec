"""How many hidden units have died: units whose activation is flat for every item, so that no error passes them.

Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013, ICML, section 2: where a
rectifier's sum is negative its slope is 0, and a unit for which it is negative on all items never learns again. A leak
keeps a slope of 0.01 there; an exponential linear unit keeps exp(z) (Clevert, Unterthiner, Hochreiter 2016,
arXiv:1511.07289, section 3).
"""

from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items


def dead_units(task: Any, data: Any, *, items: int = 5000) -> dict[str, float]:
    """Share of the hidden units with f'(z) = 0 for each of the first `items` training items, z what f is asked for.

        dead_units/01 ..    layer by layer, in the order in which they are called
        dead_units/share    of all hidden units

    Layers are the modules that own parameters, but for the last; f is `net.activation`. A unit is a feature, of a
    convolution a channel at all its positions. In float32 exp(z) is 0 below -104, so an ELU can die, too.

    Raises:
        UserError: a net that does not hold its activation as `activation`, or has no hidden layer.
    """
    f = getattr(task.net, "activation", None)
    if not callable(f):
        raise UserError("dead_units: this net does not say which nonlinearity its units have; model=mlp does")
    inputs, _ = first_items(data, items, next(task.net.parameters()).device)
    alive: dict[nn.Module, Tensor] = {}  # layer -> (units,) bool

    def see(layer: nn.Module, _: Any, z: Tensor) -> None:
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(f(z).sum(), z)
        living = slope.ne(0).transpose(0, 1).flatten(1).any(1)  # (B, units, ...) -> (units,)
        alive[layer] = alive[layer] | living if layer in alive else living

    hooks = [layer.register_forward_hook(see) for layer in task.net.modules() if layer._parameters]
    try:
        with torch.no_grad():
            for some in inputs.split(500):
                task.net(some)
    finally:
        for hook in hooks:
            hook.remove()
    hidden = [*alive.values()][:-1]
    if not hidden:
        raise UserError("dead_units: this net has no hidden layer")
    found = {f"{number:02d}": layer for number, layer in enumerate(hidden, start=1)} | {"share": torch.cat(hidden)}
    return {f"dead_units/{name}": 1 - float(layer.double().mean()) for name, layer in found.items()}
