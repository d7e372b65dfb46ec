"""LeNet-5 by hand: the net of `dl_zoo.models.lenet5`, forwards, backwards and the update.

LeCun, Bottou, Bengio, Haffner 1998, section II-B. Two stages of convolution, activation and pooling, then the dense
layers of `mlp`. The article's section 1.3 derives the rules for dense layers; a convolution's are the same, summed over
the places at which its one kernel is used.
"""

from typing import NamedTuple

from torch import Tensor

from dl_zoo.from_scratch import mlp
from dl_zoo.from_scratch.activations import ACTIVATIONS, Activation
from dl_zoo.from_scratch.convolution import convolve, convolve_backward, max_pool, max_pool_backward
from dl_zoo.from_scratch.mlp import Layer, Loss

POOL = 2  # pixels a side of the windows of S2 and S4


class LeNet(NamedTuple):
    c1: Layer  # (6, C, 5, 5), (6,)
    c3: Layer  # (16, 6, 5, 5), (16,)
    dense: list[Layer]  # C5 as a dense layer (120, 400), F6 (84, 120), the outputs (10, 84)


class Stage(NamedTuple):
    """What a convolution and its pooling leave for the way back."""

    x: Tensor  # what went in
    z: Tensor  # the convolution's sums
    a: Tensor  # f(z), before pooling


class Trace(NamedTuple):
    first: Stage
    second: Stage
    dense: mlp.Trace

    @property
    def logits(self) -> Tensor:
        return self.dense.activations[-1]


def forward(net: LeNet, x: Tensor, f: Activation = ACTIVATIONS["relu"]) -> Trace:
    """(N, C, 32, 32) to logits (N, 10)."""
    first, maps = stage_forward(net.c1, x, f)  # (N, 6, 28, 28), (N, 6, 14, 14)
    second, maps = stage_forward(net.c3, maps, f)  # (N, 16, 10, 10), (N, 16, 5, 5)
    through = mlp.forward(net.dense, maps.flatten(1), f)  # (N, 400) -> (N, 10)
    return Trace(first, second, through)


def stage_forward(layer: Layer, x: Tensor, f: Activation) -> tuple[Stage, Tensor]:
    z = convolve(x, layer.w, layer.b)
    a = f.f(z)
    return Stage(x, z, a), max_pool(a, POOL)


def backward(net: LeNet, trace: Trace, error: Tensor, f: Activation = ACTIVATIONS["relu"]) -> tuple[LeNet, Tensor]:
    """From dL/dlogits (N, 10) to the gradients of all layers, shaped as these, and dL/dx."""
    dense, passed = mlp.backward(net.dense, trace.dense, error, f)  # (N, 400)
    maps = passed.reshape(len(passed), -1, *(size // POOL for size in trace.second.a.shape[2:]))  # (N, 16, 5, 5)
    c3, passed = stage_backward(net.c3, trace.second, maps, f)
    c1, passed = stage_backward(net.c1, trace.first, passed, f)
    return LeNet(c1, c3, dense), passed


def stage_backward(layer: Layer, stage: Stage, error: Tensor, f: Activation) -> tuple[Layer, Tensor]:
    delta = max_pool_backward(error, stage.a, POOL) * f.derivative(stage.z)  # dL/dz
    by_x, by_w, by_b = convolve_backward(delta, stage.x, layer.w)
    return Layer(by_w, by_b), by_x


def update(net: LeNet, gradients: LeNet, lr: float) -> LeNet:
    """Gradient descent."""
    c1, c3 = mlp.update([net.c1, net.c3], [gradients.c1, gradients.c3], lr)
    return LeNet(c1, c3, mlp.update(net.dense, gradients.dense, lr))


def step(net: LeNet, x: Tensor, loss: Loss, lr: float, f: Activation = ACTIVATIONS["relu"]) -> tuple[LeNet, Tensor]:
    """One step of training: a new net, and the loss before it."""
    trace = forward(net, x, f)
    value, error = loss(trace.logits)
    gradients, _ = backward(net, trace, error, f)
    return update(net, gradients, lr), value
