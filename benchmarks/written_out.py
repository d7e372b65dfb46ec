"""What `dl_zoo.from_scratch` writes out, beside torch's own: the cases that parity.py measures in float64.

Both sides get the same tensors. Theirs goes back by torch's autograd; ours by the gradients that are written there by
hand, so a case compares both ways. Of an optimizer both sides train the same small net for 100 steps, and what it then
answers is compared, and the gradients of that.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.from_scratch import (
    activations,
    autograd,
    batch_norm,
    convolution,
    dropout,
    lenet,
    losses,
    mlp,
    optimizers,
    recurrent,
)

Back = Callable[[Tensor], Sequence[Tensor]]  # from dL/doutput to dL/dinput, one each
Forward = Callable[..., Tensor]
ByHand = Callable[..., tuple[Tensor, Back]]


class Told(torch.autograd.Function):
    """A function whose way back is the one that it comes with."""

    @staticmethod
    def forward(ctx: Any, f: ByHand, *given: Tensor) -> Tensor:
        output, ctx.back = f(*given)
        return output

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> Any:
        return None, *ctx.back(error)


class Given(nn.Module):
    """A function of tensors that are its parameters."""

    def __init__(self, f: Forward, shapes: Sequence[tuple[int, ...]]):
        super().__init__()
        self.f = f
        self.given = nn.ParameterList(torch.empty(shape) for shape in shapes)

    def forward(self) -> Tensor:
        return self.f(*self.given)


class Trained(nn.Module):
    """A small net that takes 100 steps before it answers."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer], numbers: dict[str, Any]):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
        self.make, self.numbers = make, numbers

    def forward(self) -> Tensor:
        x, y = torch.linspace(-2, 2, 100).reshape(20, 5).sin(), torch.linspace(-1, 1, 60).reshape(20, 3).cos()
        x, y = x.to(self.net[0].weight), y.to(self.net[0].weight)
        optimizer = self.make(self.net.parameters(), **self.numbers)
        for _ in range(100):
            optimizer.zero_grad()
            F.mse_loss(self.net(x), y).backward()
            optimizer.step()
        optimizer.zero_grad()
        return self.net(x)


class Pair(NamedTuple):
    name: str
    other: str
    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]


def pair(name: str, other: str, shapes: Sequence[tuple[int, ...]], theirs: Forward, ours: ByHand) -> Pair:
    return Pair(
        name, other, lambda: Given(lambda *given: Told.apply(ours, *given), shapes), lambda: Given(theirs, shapes)
    )


# ---- activations and losses ----------------------------------------------------------------------------------------

CUBE = [(4, 5, 6)]
THEIR_ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "softsign": F.softsign,
}


def activation(name: str) -> Pair:
    f, slope = activations.ACTIVATIONS[name]
    theirs = THEIR_ACTIVATIONS[name]
    return pair(f"activations.{name}", f"torch's {name}", CUBE, theirs, lambda z: (f(z), lambda e: [e * slope(z)]))


def softmax(z: Tensor) -> tuple[Tensor, Back]:
    p = activations.softmax(z)
    return p, lambda e: [activations.softmax_backward(e, p)]


ROWS, CLASSES = [(1, 12, 4)], torch.arange(12) % 4
SAME = torch.arange(12) % 3 == 0


def loss(name: str, other: str, shapes: Sequence[tuple[int, ...]], theirs: Forward, ours: Callable[..., Any]) -> Pair:
    """Ours answers (loss, gradient), or (loss, gradients)."""

    def told(*given: Tensor) -> tuple[Tensor, Back]:
        value, gradients = ours(*given)
        return value, lambda e: [e * g for g in ([gradients] if isinstance(gradients, Tensor) else gradients)]

    return pair(f"losses.{name}", other, shapes, theirs, told)


def targets(like: Tensor) -> Tensor:
    """Shares of four classes."""
    return torch.linspace(-1, 2, like.numel()).to(like).reshape(like.shape).sin().abs()


def of_probabilities(f: Callable[..., Any]) -> Callable[..., Any]:
    """Ours at sigmoid(x), which lies between 0 and 1, and back through it."""

    def told(x: Tensor) -> tuple[Tensor, Tensor]:
        p = activations.sigmoid(x)
        value, by_p = f(p, targets(p))
        return value, by_p * activations.sigmoid_derivative(x)

    return told


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Equation 4 of Hadsell et al. 2006 with a margin of 3."""
    d = (a - b).square().sum(-1).sqrt()
    return torch.where(SAME, d.square(), (3 - d).clamp(min=0).square()).mean() / 2


LOSSES = [
    loss(
        "squared_error",
        "torch's mse_loss",
        ROWS,
        lambda x: F.mse_loss(x, targets(x)),
        lambda x: losses.squared_error(x, targets(x)),
    ),
    loss(
        "huber",
        "torch's huber_loss",
        ROWS,
        lambda x: F.huber_loss(x, targets(x), delta=0.5),
        lambda x: losses.huber(x, targets(x), 0.5),
    ),
    loss(
        "binary_cross_entropy",
        "torch's binary_cross_entropy",
        ROWS,
        lambda x: F.binary_cross_entropy(x.sigmoid(), targets(x)),
        of_probabilities(losses.binary_cross_entropy),
    ),
    loss(
        "logistic_loss",
        "torch's binary_cross_entropy_with_logits",
        ROWS,
        lambda x: F.binary_cross_entropy_with_logits(x, targets(x)),
        lambda x: losses.logistic_loss(x, targets(x)),
    ),
    loss(
        "categorical_cross_entropy",
        "torch's log and autograd",
        ROWS,
        lambda x: -(targets(x) * x.sigmoid().log()).sum() / len(x),
        of_probabilities(losses.categorical_cross_entropy),
    ),
    loss(
        "cross_entropy",
        "torch's cross_entropy",
        [(12, 4)],
        lambda x: F.cross_entropy(x, CLASSES),
        lambda x: losses.cross_entropy(x, CLASSES),
    ),
    loss(
        "contrastive",
        "the paper's formula and torch's autograd",
        [(12, 4)] * 2,
        apart,
        lambda a, b: losses.contrastive(a, b, SAME, 3.0),
    ),
    loss(
        "triplet",
        "torch's triplet_margin_loss",
        [(12, 4)] * 3,
        lambda a, p, n: F.triplet_margin_loss(a, p, n, margin=0.2, eps=0.0),
        lambda a, p, n: losses.triplet(a, p, n, 0.2, squared=False),
    ),
]


# ---- layers --------------------------------------------------------------------------------------------------------


def norm(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Back]:
    running = batch_norm.Running(torch.zeros_like(beta), torch.ones_like(beta))
    y, _, kept = batch_norm.batch_norm(x, gamma, beta, running)
    return y, lambda e: batch_norm.batch_norm_backward(e, gamma, kept)


def convolved(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Back]:
    y = convolution.convolve(x, w, b, stride=2, padding=1)
    return y, lambda e: convolution.convolve_backward(e, x, w, stride=2, padding=1)


def max_pooled(x: Tensor) -> tuple[Tensor, Back]:
    return convolution.max_pool(x, 2), lambda e: [convolution.max_pool_backward(e, x, 2)]


def average_pooled(x: Tensor) -> tuple[Tensor, Back]:
    return convolution.average_pool(x, 2), lambda e: [convolution.average_pool_backward(e, x, 2)]


def halves(x: Tensor) -> Tensor:
    """A mask of dropout at 0.5, the same for both."""
    return dropout.mask_of(x, 0.5, torch.Generator().manual_seed(0))


PICTURES = (2, 3, 8, 8)
LAYERS = [
    pair(
        "batch_norm",
        "torch's batch_norm",
        [(1, 9, 5), (5,), (5,)],
        lambda x, gamma, beta: F.batch_norm(x[0], None, None, gamma, beta, training=True),
        lambda x, gamma, beta: of_first(norm, x, gamma, beta),
    ),
    pair(
        "dropout",
        "torch's product with the same mask",
        CUBE,
        lambda x: x * halves(x),
        lambda x: (dropout.dropout(x, halves(x)), lambda e: [dropout.dropout_backward(e, halves(e))]),
    ),
    pair(
        "convolution.convolve",
        "torch's conv2d",
        [PICTURES, (4, 3, 3, 3), (4,)],
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1),
        convolved,
    ),
    pair("convolution.max_pool", "torch's max_pool2d", [PICTURES], lambda x: F.max_pool2d(x, 2), max_pooled),
    pair("convolution.average_pool", "torch's avg_pool2d", [PICTURES], lambda x: F.avg_pool2d(x, 2), average_pooled),
]


def of_first(f: ByHand, x: Tensor, *rest: Tensor) -> tuple[Tensor, Back]:
    """Of a batch in a batch of one, where entries of unit variance are wanted."""
    y, back = f(x[0], *rest)

    def first(e: Tensor) -> list[Tensor]:
        by_x, *others = back(e)
        return [by_x[None], *others]

    return y, first


# ---- nets ----------------------------------------------------------------------------------------------------------

DENSE = [(7, 6), (7,), (7, 7), (7,), (3, 7), (3,)]
LENET = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)]


def paired(given: Sequence[Tensor]) -> list[mlp.Layer]:
    return [mlp.Layer(w, b) for w, b in zip(given[::2], given[1::2], strict=True)]


def flat(layers: Sequence[mlp.Layer]) -> list[Tensor]:
    return [each for layer in layers for each in layer]


def mlp_by_hand(x: Tensor, *given: Tensor) -> tuple[Tensor, Back]:
    layers = paired(given)
    trace = mlp.forward(layers, x[0])

    def back(e: Tensor) -> list[Tensor]:
        gradients, by_x = mlp.backward(layers, trace, e)
        return [by_x[None], *flat(gradients)]

    return trace.activations[-1], back


def their_mlp(x: Tensor, *given: Tensor) -> Tensor:
    *hidden, last = paired(given)
    x = x[0]
    for w, b in hidden:
        x = torch.relu(F.linear(x, w, b))
    return F.linear(x, *last)


def lenet_by_hand(x: Tensor, *given: Tensor) -> tuple[Tensor, Back]:
    c1, c3, *dense = paired(given)
    net = lenet.LeNet(c1, c3, dense)
    trace = lenet.forward(net, x)

    def back(e: Tensor) -> list[Tensor]:
        gradients, by_x = lenet.backward(net, trace, e)
        return [by_x, *flat([gradients.c1, gradients.c3, *gradients.dense])]

    return trace.logits, back


def their_lenet(x: Tensor, *given: Tensor) -> Tensor:
    for w, b in paired(given[:4]):
        x = F.max_pool2d(torch.relu(F.conv2d(x, w, b)), 2)
    return their_mlp(x.flatten(1)[None], *given[4:])


def cell(name: str, ours: recurrent.Cell) -> Pair:
    """One layer over six steps."""
    theirs = getattr(nn, name)(4, 5, batch_first=True)
    shapes = [(3, 6, 4), *(tuple(value.shape) for value in theirs.parameters())]

    def by_torch(x: Tensor, *given: Tensor) -> Tensor:
        named = dict(zip((key for key, _ in theirs.named_parameters()), given, strict=True))
        output: Tensor = torch.func.functional_call(theirs.double(), named, (x,))[0]
        return output

    def by_hand(x: Tensor, *given: Tensor) -> tuple[Tensor, Back]:
        weights = recurrent.Weights(*given)
        outputs, states, kept = recurrent.unroll(ours, x, weights)

        def back(e: Tensor) -> list[Tensor]:
            by_x, gradients = recurrent.through_time(ours, e, x, states, kept, weights)
            return [by_x, *gradients]

        return outputs, back

    return pair(f"recurrent.{name}", f"torch.nn.{name}", shapes, by_torch, by_hand)


# ---- the engine, and optimizers ------------------------------------------------------------------------------------


def expression(x: Any, w: Any, v: Any) -> Any:
    """For tensors and for nodes alike: broadcasting, sums, a value that is used twice."""
    h = (x @ w).tanh()
    return ((h * h).sum(1, True).exp() + (x * v).sum()).log() * h.mean() - v / ((x * x).mean() + 1.0)


def by_engine(*given: Tensor) -> tuple[Tensor, Back]:
    leaves = [autograd.Node(each) for each in given]
    output = expression(*leaves)

    def back(e: Tensor) -> list[Tensor]:
        found = autograd.gradients((output * e).sum())
        return [found[leaf] for leaf in leaves]

    return output.value, back


def optimizer(name: str, ours: Any, theirs: Any, **numbers: Any) -> Pair:
    other = f"torch.optim.{theirs.__name__}" + (", Nesterov's" if numbers.get("nesterov") else "")
    return Pair(f"optimizers.{name}", other, lambda: Trained(ours, numbers), lambda: Trained(theirs, numbers))


PAIRS = [
    pair("autograd", "torch's autograd", [(9, 4), (4, 4), (1, 4)], expression, by_engine),
    *(activation(name) for name in THEIR_ACTIVATIONS),
    pair("activations.softmax", "torch's softmax", CUBE, lambda z: z.softmax(-1), softmax),
    *LOSSES,
    *LAYERS,
    pair("mlp", "torch's layers", [(1, 9, 6), *DENSE], their_mlp, mlp_by_hand),
    pair("lenet", "torch's layers", [(2, 1, 32, 32), *LENET], their_lenet, lenet_by_hand),
    cell("RNN", recurrent.RNN()),
    cell("LSTM", recurrent.LSTM()),
    cell("GRU", recurrent.GRU()),
    optimizer("GradientDescent", optimizers.GradientDescent, torch.optim.SGD, lr=0.1),
    optimizer("Momentum", optimizers.Momentum, torch.optim.SGD, lr=0.05, momentum=0.9),
    optimizer("Momentum nesterov=True", optimizers.Momentum, torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    optimizer("AdaGrad", optimizers.AdaGrad, torch.optim.Adagrad, lr=0.1, eps=1e-10),
    optimizer("RMSprop", optimizers.RMSprop, torch.optim.RMSprop, lr=0.01, alpha=0.9, eps=1e-8),
    optimizer("Adam", optimizers.Adam, torch.optim.Adam, lr=0.01, betas=(0.9, 0.999), eps=1e-8),
]
