"""A multilayer perceptron by hand: forwards, backwards and the update, layer by layer.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986; the article's section 1.3.
With a_0 = x, for the layers l = 1 .. L

    z_l = W_l a_(l-1) + b_l,    a_l = f(z_l),    a_L = z_L, the logits

and delta_l = dL/dz_l, the derivative by the *sum*: the article defines it by the activation and uses it as
this one. Then

    delta_l = (W_(l+1)^T delta_(l+1)) f'(z_l),    dL/dW_l = sum_n delta_l a_(l-1)^T,    dL/db_l = sum_n delta_l

Losses of this zoo are means over the batch, so 1/N is in delta_L already and the sums over n add nothing to it.

Shapes: x (N, n_0), W_l (n_l, n_(l-1)), b_l (n_l,); examples are rows, so W a is written a W^T.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from dl_zoo.from_scratch.activations import ACTIVATIONS, Activation

Loss = Callable[[Tensor], tuple[Tensor, Tensor]]  # of the outputs: the loss, and its gradient by them


class Layer(NamedTuple):
    w: Tensor  # (n_out, n_in)
    b: Tensor  # (n_out,)


class Trace(NamedTuple):
    """What the way forwards leaves for the way back."""

    sums: list[Tensor]  # z_1 .. z_L, (N, n_l)
    activations: list[Tensor]  # a_0 .. a_L, (N, n_l); the last are the logits


def forward(layers: Sequence[Layer], x: Tensor, f: Activation = ACTIVATIONS["relu"]) -> Trace:
    sums, activations = [], [x]  # a_0 = x
    for layer in layers:
        sums.append(activations[-1] @ layer.w.T + layer.b)  # z_l = W_l a_(l-1) + b_l
        last = len(sums) == len(layers)
        activations.append(sums[-1] if last else f.f(sums[-1]))  # a_l = f(z_l)
    return Trace(sums, activations)


def backward(
    layers: Sequence[Layer], trace: Trace, error: Tensor, f: Activation = ACTIVATIONS["relu"]
) -> tuple[list[Layer], Tensor]:
    """From `error`, dL/dz_L (N, n_L), to the gradients of all layers, shaped as these, and dL/dx (N, n_0)."""
    gradients = []
    delta = error  # delta_L
    for l in reversed(range(len(layers))):
        gradients.append(Layer(delta.T @ trace.activations[l], delta.sum(0)))  # delta a^T, delta; summed over n
        passed = delta @ layers[l].w  # W_l^T delta_l, dL/da_(l-1)
        delta = passed * f.derivative(trace.sums[l - 1]) if l else passed  # times f'(z_(l-1)); x has none
    return gradients[::-1], delta


def update(layers: Sequence[Layer], gradients: Sequence[Layer], lr: float) -> list[Layer]:
    """Gradient descent."""
    pairs = zip(layers, gradients, strict=True)
    return [Layer(each.w - lr * g.w, each.b - lr * g.b) for each, g in pairs]  # W_l - eta dL/dW_l


def step(
    layers: Sequence[Layer], x: Tensor, loss: Loss, lr: float, f: Activation = ACTIVATIONS["relu"]
) -> tuple[list[Layer], Tensor]:
    """One step of training: new layers, and the loss before it."""
    trace = forward(layers, x, f)
    value, error = loss(trace.activations[-1])
    gradients, _ = backward(layers, trace, error, f)
    return update(layers, gradients, lr), value
