"""Initial weights of a whole net, drawn from torch's global generator.

Each function goes over the layers that compute weighted sums (linear, bilinear, convolutions, and any layer that
states its own `fan_in` and `fan_out`), sets their weights anew and their biases to zero. Everything else keeps what
its net gave it: norms, embeddings, recurrent cells.

A unit adds n_in products, so the variance of its sum is n_in Var[w] E[x^2]; backward, n_out takes n_in's place:

    LeCun   Var[w] = 1 / n_in, w ~ N(0, 1 / n_in)
            LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998, eq. 16: sums as large as normalised inputs
    Xavier  Var[w] = 2 / (n_in + n_out), w ~ U(-a, a), a = sqrt(6 / (n_in + n_out))
            Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010,
            AISTATS, eq. 12 and 16: the compromise between keeping activations and keeping gradients
    He      Var[w] = 2 / n_in, w ~ N(0, 2 / n_in)
            He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852, eq. 10: a rectifier sets
            half of the sums to zero, so E[x^2] is half their variance; Xavier's 1 / n halves it at every layer

Variances hold on average over many draws; one matrix still stretches some directions and shrinks others, and a product
of many does so without bound. `orthogonal` has no such spread. `zeros`, `constant` and `normal` are what these four are
measured against.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Nonlinearity = Literal["relu", "leaky_relu", "selu", "tanh", "sigmoid", "linear"]
Fan = float | Tensor  # a tensor where links of one layer belong to units of different size (LeNet-5's C3)


def default(net: nn.Module) -> None:
    """Leave the net as it was built: torch's defaults, or what the model file says."""


def zeros(net: nn.Module) -> None:
    """All weights zero: a counter-example.

    Error goes back in proportion to the weights it passes (Rumelhart, Hinton, Williams, "Learning Internal
    Representations by Error Propagation", 1986, section "Symmetry breaking"), here to none. A plain net whose f(0) is
    0 (rectifier, tanh) has zero activations too, so that only its last bias ever learns.
    """
    constant(net, 0.0)


def constant(net: nn.Module, value: float = 0.01) -> None:
    """All weights alike: a counter-example, as in the same section of Rumelhart, Hinton and Williams.

    The units of a layer start as copies, so they get the same gradients and stay copies: a layer of any width is worth
    one unit. Only a random draw, such as dropout's, tells them apart. 0.01 is the size of `normal`'s weights: between
    the two only the symmetry differs.
    """
    redraw(net, lambda layer, *_: layer.weight.fill_(value))


def normal(net: nn.Module, std: float = 0.01) -> None:
    """Normal weights of one standard deviation in every layer, whatever its size.

    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 5.
    They set some of the biases to 1; here all are zero.
    """
    redraw(net, lambda layer, *_: layer.weight.normal_().mul_(std))


def lecun(net: nn.Module) -> None:
    """Normal weights of variance 1 / n_in, zero biases (LeCun et al. 1998): for normalised inputs and tanh or SELU."""
    redraw(net, lambda layer, n_in, _: layer.weight.normal_().mul_(1 / n_in**0.5))


def xavier(net: nn.Module, gain: float = 1.0) -> None:
    """Uniform weights of variance gain^2 * 2 / (n_in + n_out), zero biases (Glorot and Bengio 2010).

    >>> layer = nn.Linear(300, 100)
    >>> xavier(layer)
    >>> bool(layer.weight.abs().max() <= (6 / 400) ** 0.5), bool(layer.bias.any())
    (True, False)
    """
    redraw(net, lambda layer, n_in, n_out: layer.weight.uniform_(-1, 1).mul_(gain * (6 / (n_in + n_out)) ** 0.5))


def he(net: nn.Module, nonlinearity: Nonlinearity = "relu") -> None:
    """Normal weights of variance gain^2 / n_in, zero biases (He et al. 2015).

    `nonlinearity` chooses the gain by torch's names: sqrt(2) for relu, sqrt(2 / (1 + 0.01^2)) for leaky_relu
    (eq. 15 with that slope), 1 for linear. ValueError if torch does not know it.
    """
    gain = nn.init.calculate_gain(nonlinearity)
    redraw(net, lambda layer, n_in, _: layer.weight.normal_().mul_(gain / n_in**0.5))


def orthogonal(net: nn.Module, gain: float = 1.0) -> None:
    """Orthogonal weights times `gain`, zero biases: square linear layers keep every norm, not only the average one.

    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    2014, ICLR, arXiv:1312.6120, sections 2 and 3: all singular values of a deep linear net are then gain^depth, and it
    learns in a time that does not grow with its depth.

    The matrix W is (n_out, n_in), a kernel's taps counted among the inputs: W W^T = gain^2 I, or W^T W = gain^2 I where
    there are more units than inputs. Each group of a grouped convolution has its own. A convolution's windows overlap,
    so this W does not make it keep norms. A layer that states its own `fan_in` (LeNet-5's C3: rows of different
    length) has no such matrix: it gets N(0, gain^2 / n_in), which gives its rows a squared norm of gain^2 on average.

    >>> layer = nn.Linear(3, 2)
    >>> orthogonal(layer, gain=2.0)
    >>> torch.allclose(layer.weight @ layer.weight.T, 4 * torch.eye(2), atol=1e-5)
    True
    """

    def draw(layer: Any, n_in: Fan, _: Fan) -> None:
        if hasattr(layer, "fan_in"):
            layer.weight.normal_().mul_(gain / n_in**0.5)
            return
        for group in unit_weights(layer):
            matrix = nn.init.orthogonal_(group.new_empty(len(group), group[0].numel()), gain)
            group.copy_(matrix.view(group.shape))

    redraw(net, draw)


@torch.no_grad()
def redraw(net: nn.Module, draw: Callable[[Any, Fan, Fan], object]) -> None:
    """Call `draw(layer, n_in, n_out)`, which sets `layer.weight`, for each layer of weighted sums; zero its bias."""
    layer: Any  # a layer is known by its attributes
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Bilinear | _ConvNd) or hasattr(layer, "fan_in"):
            draw(layer, *fans(layer))
            if layer.bias is not None:
                layer.bias.zero_()


def fans(layer: Any) -> tuple[Fan, Fan]:
    """How many inputs a unit adds up, and how many units an input reaches; strides are ignored, as in the papers."""
    if hasattr(layer, "fan_in"):
        return layer.fan_in, layer.fan_out
    weight, groups = layer.weight, getattr(layer, "groups", 1)
    taps = weight[0, 0].numel()
    first, second = weight.shape[0] // groups * taps, weight.shape[1] * taps
    return (first, second) if getattr(layer, "transposed", False) else (second, first)


def unit_weights(layer: Any) -> Tensor:
    """A view of the weight by groups and their units: (groups, n_out, inputs, *taps).

    >>> unit_weights(nn.ConvTranspose2d(4, 6, 5, groups=2)).shape
    torch.Size([2, 3, 2, 5, 5])
    """
    weight = layer.weight.unflatten(0, (getattr(layer, "groups", 1), -1))
    return weight.transpose(1, 2) if getattr(layer, "transposed", False) else weight
