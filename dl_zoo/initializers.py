"""Initial weights of a whole net, drawn from torch's global generator.

Each function goes over the layers that compute weighted sums (linear, bilinear, convolutions, and any layer that
states its own `fan_in` and `fan_out`), draws their weights anew and sets their biases to zero. Everything else keeps
what its net gave it: norms, embeddings, recurrent cells.

A unit adds n_in products, so the variance of its sum is n_in Var[w] E[x^2]; backward, n_out takes n_in's place:

    Xavier  Var[w] = 2 / (n_in + n_out), w ~ U(-a, a), a = sqrt(6 / (n_in + n_out))
            Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010,
            AISTATS, eq. 12 and 16: the compromise between keeping activations and keeping gradients
    He      Var[w] = 2 / n_in, w ~ N(0, 2 / n_in)
            He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852, eq. 10: a rectifier sets
            half of the sums to zero, so E[x^2] is half their variance; Xavier's 1 / n halves it at every layer
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Nonlinearity = Literal["relu", "leaky_relu", "selu", "tanh", "sigmoid", "linear"]
Fan = float | Tensor  # a tensor where links of one layer belong to units of different size (LeNet-5's C3)


def xavier(net: nn.Module, gain: float = 1.0) -> None:
    """Uniform weights of variance gain^2 * 2 / (n_in + n_out), zero biases (Glorot and Bengio 2010).

    >>> layer = nn.Linear(300, 100)
    >>> xavier(layer)
    >>> bool(layer.weight.abs().max() <= (6 / 400) ** 0.5), bool(layer.bias.any())
    (True, False)
    """
    redraw(net, lambda weight, n_in, n_out: weight.uniform_(-1, 1).mul_(gain * (6 / (n_in + n_out)) ** 0.5))


def he(net: nn.Module, nonlinearity: Nonlinearity = "relu") -> None:
    """Normal weights of variance gain^2 / n_in, zero biases (He et al. 2015).

    `nonlinearity` chooses the gain by torch's names: sqrt(2) for relu, sqrt(2 / (1 + 0.01^2)) for leaky_relu
    (eq. 15 with that slope), 1 for linear. ValueError if torch does not know it.
    """
    gain = nn.init.calculate_gain(nonlinearity)
    redraw(net, lambda weight, n_in, _: weight.normal_().mul_(gain / n_in**0.5))


def default(net: nn.Module) -> None:
    """Leave the net as it was built: torch's defaults, or what the model file says."""


@torch.no_grad()
def redraw(net: nn.Module, draw: Callable[[Tensor, Fan, Fan], Tensor]) -> None:
    """Call `draw(weight, n_in, n_out)` for each layer of weighted sums, and zero its bias."""
    layer: Any  # a layer is known by its attributes
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Bilinear | _ConvNd) or hasattr(layer, "fan_in"):
            draw(layer.weight, *fans(layer))
            if layer.bias is not None:
                layer.bias.zero_()


def fans(layer: Any) -> tuple[Fan, Fan]:
    """How many inputs a unit adds up, and how many units an input reaches; strides are ignored, as in both papers."""
    if hasattr(layer, "fan_in"):
        return layer.fan_in, layer.fan_out
    weight, groups = layer.weight, getattr(layer, "groups", 1)
    taps = weight[0, 0].numel()
    first, second = weight.shape[0] // groups * taps, weight.shape[1] * taps
    return (first, second) if getattr(layer, "transposed", False) else (second, first)
