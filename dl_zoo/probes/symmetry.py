"""Are the units of a layer still copies of one another, and does any error reach them?

Rumelhart, Hinton, Williams, "Learning Internal Representations by Error Propagation", 1986, section "Symmetry
breaking": units of a layer that start with equal weights get equal gradients, and stay equal whatever is learnt; error
goes back in proportion to the weights it passes, so where these are zero none arrives.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items


def symmetry(task: Any, data: Any, *, items: int = 512) -> dict[str, float]:
    """How far the hidden layers, all but the last with weights, are from learning nothing and from being one unit.

        hidden_gradient    largest |dL/dw| over their weights and biases; L is the mean loss of the first `items` items
        unit_spread        largest difference of two units' weights from one input, over the layer's largest weight;
                           the largest over layers, 0 for a layer of zeros

    A row of a weight (n_out, ...) is a unit. Modules that own parameters count in the order in which they are held.
    In the net's own precision: what is asked is whether training, which knows no other, has kept numbers equal.

    Raises:
        UserError: no hidden layer.
    """
    inputs, targets = first_items(data, items, next(task.net.parameters()).device)
    original, task.net = task.net, copy.deepcopy(task.net).train()
    try:
        layers = [[*m.parameters(recurse=False)] for m in task.net.modules() if m._parameters][:-1]
        hidden = [parameter for layer in layers for parameter in layer]
        if not hidden:
            raise UserError("symmetry: this net has no hidden layer with parameters")
        for parameter in hidden:
            parameter.requires_grad = True  # frozen ones too
        with torch.enable_grad():
            gradients = torch.autograd.grad(task.measure((inputs, targets)).loss, hidden)
    finally:
        task.net = original
    spreads = [unit_spread(parameter.detach()) for parameter in hidden if parameter.dim() > 1]
    return {"hidden_gradient": max(float(g.abs().max()) for g in gradients), "unit_spread": max(spreads, default=0.0)}


def unit_spread(weight: Tensor) -> float:
    """Of (n_out, ...): largest difference within a column, over the largest weight.

    >>> unit_spread(torch.tensor([[1.0, 2.0], [1.0, 2.0]])), unit_spread(torch.tensor([[1.0, -2.0], [1.0, 2.0]]))
    (0.0, 2.0)
    """
    largest = float(weight.abs().max())
    return float((weight.amax(0) - weight.amin(0)).max()) / largest if largest else 0.0
