"""How signals grow or shrink from layer to layer: activations on the way up, gradients on the way back.

Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", diploma thesis, TU Muenchen, 1991; Bengio, Simard,
Frasconi, "Learning Long-Term Dependencies with Gradient Descent is Difficult", IEEE Trans. Neural Networks 5(2), 1994:
by the chain rule the gradient at layer l is a product over all layers above it,

    dL/dz_l = f'(z_l) W_(l+1)^T dL/dz_(l+1),    z_l = W_l h_(l-1) + b_l,    h_l = f(z_l)

so its norm goes, but for its last factors, as a constant to the power of the distance: a straight line in log10, whose
slope is what one layer does. Glorot and Bengio 2010, section 4.2, ask of initial weights that both lines are level.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items

TINY = 1e-300


def gradient_flow(task: Any, data: Any, *, items: int = 512) -> dict[str, float]:
    """Norms of dL/dz and standard deviations of z, z the output of each module that owns parameters, by log10.

    L is the mean loss of the first `items` training items. Modules are numbered 01, 02, ... as they are called, so a
    tied one counts once a call. The last call is the head; the L before it are the hidden layers, of which are reported

        gradient/01 ..      log10 |g_l| / |g_L|, g_l = dL/dz_l over all items
        activation/01 ..    log10 std_l / std_1, std over all units and items
        gradient_slope      of the straight line through log10 |g_l|, a layer towards the input: below 0 they vanish
        gradient_ratio      log10 |g_1| / |g_L|
        activation_ratio    log10 std_L / std_1

    All is done on a copy of the net in float64: in a sigmoid net of 50 layers |g_1| is near 1e-35, whose square float32
    cannot hold. A size of exactly 0 counts as TINY, so that its logarithm is finite. The copy is in training mode, so
    that batch norm divides by the batch's own deviation, as in the first step.

    Raises:
        UserError: fewer than two hidden layers.
    """
    inputs, targets = first_items(data, items, next(task.net.parameters()).device)
    with copied(task, torch.float64) as net, torch.enable_grad():
        outputs: list[Tensor] = []
        watch(net, outputs)
        loss = task.measure((inputs.double(), targets)).loss
        gradients = torch.autograd.grad(loss, outputs)
    if len(outputs) < 3:
        raise UserError(f"gradient_flow: {len(outputs)} layers with parameters; it takes two hidden ones and a head")
    return summary(logs(gradients, torch.linalg.vector_norm), logs(outputs, deviation))


def summary(gradient: np.ndarray, activation: np.ndarray) -> dict[str, float]:
    """The numbers of `gradient_flow` from log10 of norms and deviations (L + 1,), the head's last."""
    gradient, activation = gradient[:-1] - gradient[-2], activation[:-1] - activation[0]  # (L,)
    layers = np.arange(1, len(gradient) + 1)
    profile = {f"gradient/{layer:02d}": value for layer, value in zip(layers, gradient, strict=True)}
    profile |= {f"activation/{layer:02d}": value for layer, value in zip(layers, activation, strict=True)}
    centred = layers - layers.mean()
    ends = {"gradient_ratio": gradient[0], "activation_ratio": activation[-1]}
    slope = -(centred @ gradient) / (centred @ centred)  # least squares; towards the input the layers count down
    return {name: float(value) for name, value in {**profile, **ends, "gradient_slope": slope}.items()}


def logs(tensors: Any, size: Any) -> np.ndarray:
    """log10 of the size of each tensor, by `size`."""
    return np.log10([max(TINY, float(size(tensor.detach()))) for tensor in tensors])


def deviation(output: Tensor) -> Tensor:
    return output.std(correction=0)


def watch(net: nn.Module, outputs: list[Tensor]) -> None:
    """Have `outputs` filled, in the order of calls, by every module that owns parameters and returns one tensor.

    What goes on is a copy: a rectifier that works in place would else overwrite what is measured.
    """

    def note(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        outputs.append(output)
        return output.clone()

    for module in net.modules():
        if module._parameters:
            module.register_forward_hook(note)


@contextmanager
def copied(task: Any, dtype: torch.dtype) -> Iterator[nn.Module]:
    """The task holds a copy of its net in training mode and of this type, which may be hooked and differentiated."""
    original = task.net
    try:
        task.net = copy.deepcopy(original).to(dtype).train()
        yield task.net
    finally:
        task.net = original
