"""The foundations in plain tensors: each equal to torch's, outputs and gradients, in float64."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dl_zoo.from_scratch import activations, losses
from dl_zoo.from_scratch.activations import ACTIVATIONS
from dl_zoo.from_scratch.autograd import Node, gradients

F64 = torch.float64


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=F64)


def close(ours: Tensor, theirs: Tensor, within: float = 1e-10) -> None:
    torch.testing.assert_close(ours, theirs, rtol=within, atol=within)


# ---- automatic differentiation -----------------------------------------------------------------------------------

Any_ = Any  # a node or a tensor: both understand the same words
ONE: dict[str, Callable[[Any_], Any_]] = {  # values stay of order 1, so that an absolute difference means something
    "exp": lambda a: a.tanh().exp(),
    "log": lambda a: (a * a + 1.5).log(),
    "tanh": lambda a: a.tanh(),
    "relu": lambda a: a.relu(),
    "power": lambda a: (a * a + 0.1) ** 0.3 + a.tanh() ** 3,
    "negative": lambda a: 0.7 - (-a),
    "inverse": lambda a: 1 / (a * a + 1),
    "sum of all": lambda a: (a.sum() / 10).tanh(),
    "sum": lambda a: a.sum(-1, keepdim=True).tanh(),
    "sums": lambda a: a.sum((0, -1)).reshape(1, -1),
    "mean": lambda a: a.mean(0, keepdim=True) - a,
    "maximum": lambda a: a.amax(-1, keepdim=True) * a,
    "maximum over rows": lambda a: a.amax(0).reshape(1, *a_shape(a)[1:]),
    "transpose": lambda a: a.transpose(-1, -2) @ a,
    "reshape": lambda a: a.reshape(-1, 1)[:4] * a.reshape(1, -1)[:, -3:],
    "slice": lambda a: a[..., :1] + a,
    "row": lambda a: a[0].reshape(1, *a_shape(a)[1:]) - a[-1],
    "taken twice": lambda a: a[torch.tensor([0, -1, 0])],
}
TWO: dict[str, Callable[[Any_, Any_], Any_]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: (a * b).tanh(),
    "by": lambda a, b: a / (b * b + 1),
    "matrix": lambda a, b: (a @ b.transpose(-1, -2)).tanh(),
}


def a_shape(a: Any_) -> tuple[int, ...]:
    return tuple(a.value.shape if isinstance(a, Node) else a.shape)


def grown(leaves: list[Any_], seed: int) -> Any_:
    """A random graph over the leaves, the same for nodes and for tensors; what does not fit is not drawn again."""
    draw = random.Random(seed)
    values = list(leaves)
    while len(values) < 14:
        a, b = draw.choice(values), draw.choice(values)
        one, two, unary = draw.choice(list(ONE)), draw.choice(list(TWO)), draw.random() < 0.5
        if unary and not a_shape(a):
            continue
        try:
            found = ONE[one](a) if unary else TWO[two](a, b)
        except (RuntimeError, IndexError, ValueError):
            continue  # shapes that do not meet
        if len(a_shape(found)) in (0, 2, 3):
            values.append(found)
    total = values[0].sum()
    for i, value in enumerate(values):
        total = total + (value * (0.5 + i / 10)).sum()
    return total


def leaves_of(seed: int) -> list[Tensor]:
    draw = random.Random(seed)
    n, m = draw.randint(1, 4), draw.randint(1, 4)
    return [normal(n, m), normal(1, m), normal(n, 1), normal(2, n, m), normal()]


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_graphs_have_torchs_gradients(first: int) -> None:
    for seed in range(first, first + 50):
        leaves = leaves_of(seed)
        nodes, tensors = [Node(leaf) for leaf in leaves], [leaf.clone().requires_grad_() for leaf in leaves]
        ours, theirs = grown(nodes, seed), grown(tensors, seed)
        theirs.backward()
        close(ours.value, theirs.detach())
        found = gradients(ours)
        for node, tensor in zip(nodes, tensors, strict=True):
            assert tensor.grad is not None
            scale = tensor.grad.abs().max().clamp(min=1)
            close(found[node] / scale, tensor.grad / scale)


def test_every_word_of_the_fuzz_is_used_and_is_torchs() -> None:
    """Each by itself, so that no graph hides a wrong one."""
    x, y = normal(3, 4), normal(1, 4)
    for name, word in {**ONE, **TWO}.items():
        nodes, tensors = [Node(x), Node(y)], [x.clone().requires_grad_(), y.clone().requires_grad_()]
        count = 1 if name in ONE else 2
        ours, theirs = word(*nodes[:count]), word(*tensors[:count])
        weights = normal(*theirs.shape)
        found = gradients((ours * weights).sum())
        (theirs * weights).sum().backward()
        close(ours.value, theirs.detach())
        for node, tensor in zip(nodes[:count], tensors[:count], strict=True):
            close(found[node], tensor.grad)


def test_a_value_that_is_used_several_times_and_a_graph_deeper_than_pythons_stack() -> None:
    x = Node(torch.tensor(1.0, dtype=F64))
    y = x
    for _ in range(1200):
        y = y * 0.5 + x
    close(gradients(y)[x], torch.tensor(2.0, dtype=F64))
    doubled = x
    for _ in range(60):
        doubled = doubled + doubled  # 2^60 paths, 60 nodes: each is visited once
    assert gradients(doubled)[x] == 2**60


def test_a_power_of_zero_is_constant_at_zero_too() -> None:
    x = Node(torch.tensor([0.0, 2.0]))
    assert gradients((x**0 + x**1).sum())[x].tolist() == [1, 1]


def test_tensors_and_numbers_meet_nodes_from_either_side() -> None:
    x = normal(2, 2)
    node = Node(x)
    for ours, theirs in [
        (x - node, x - x), (x @ node, x @ x), (x + node, x + x), (x * node, x * x), (x / node, x / x),
        (0.1 + node, 0.1 + x), (0.1 * node, 0.1 * x), (0.1 / node, 0.1 / x),
    ]:  # fmt: skip
        close(ours.value, theirs, 1e-15)
    tied = torch.tensor([[2.0, 2.0, 1.0]])
    leaf, theirs = Node(tied), tied.clone().requires_grad_()
    theirs.amax(1).sum().backward()
    assert torch.equal(gradients(leaf.amax(1).sum())[leaf], theirs.grad)


def test_a_gradient_is_of_one_number_and_a_product_of_matrices() -> None:
    x = Node(normal(2, 3))
    with pytest.raises(ValueError, match=r"shape \(2, 3\): a gradient is that of one number"):
        gradients(x)
    with pytest.raises(ValueError, match="both must be matrices; reshape the vector"):
        x @ normal(3)


# ---- activations -------------------------------------------------------------------------------------------------

TORCHS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda z: z * 1,
    "step": lambda z: (z >= 0).to(z.dtype) + 0 * z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": lambda z: F.softplus(z, threshold=1000),
    "softsign": F.softsign,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_derivatives_are_torchs(name: str) -> None:
    z = torch.cat([normal(200) * 5, torch.tensor([0.0, -30.0, 30.0, -700.0, 700.0], dtype=F64)]).requires_grad_()
    if name == "step":
        z = z.detach()[z != 0].requires_grad_()
        assert ACTIVATIONS["step"].f(torch.zeros(1)) == 1
    theirs = TORCHS[name](z)
    (slope,) = torch.autograd.grad(theirs.sum(), z)
    close(ACTIVATIONS[name].f(z.detach()), theirs.detach())
    close(ACTIVATIONS[name].derivative(z.detach()), slope)


def test_slopes_where_units_saturate() -> None:
    """Landmark figures: the largest slopes, and those at 10; in float32 they are no rounded 0 either."""
    ten, zero = torch.tensor(10.0), torch.tensor(0.0)
    for name, top, small in [("sigmoid", 0.25, 4.5396e-5), ("tanh", 1.0, 8.2446e-9)]:
        slope = ACTIVATIONS[name].derivative
        assert slope(zero) == top
        assert slope(ten).item() == pytest.approx(small, rel=1e-3)
        assert slope(torch.linspace(-5, 5, 101, dtype=F64)).max() <= top


def test_softmax_is_torchs() -> None:
    z = (normal(5, 7) * 10).requires_grad_()
    error, p = normal(5, 7), activations.softmax(z.detach())
    theirs = torch.softmax(z, -1)
    close(p, theirs.detach())
    close(activations.log_softmax(z.detach()), torch.log_softmax(z, -1).detach())
    close(activations.softmax_backward(error, p), torch.autograd.grad((theirs * error).sum(), z)[0])
    close(activations.softmax(z.detach() + 1e4), theirs.detach())


# ---- losses ------------------------------------------------------------------------------------------------------

CLASSES = torch.tensor([0, 3, 1, 1, 2])
ONES = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.3], dtype=F64)
SAME = torch.tensor([True, False, False, True, False])


def contrasted(a: Tensor, b: Tensor) -> Tensor:
    d = (a - b).norm(dim=1)
    return torch.where(SAME, d**2, (2.5 - d).clamp(min=0) ** 2).mean() / 2


def squared_triplet(a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return ((a - p).square().sum(1) - (a - n).square().sum(1) + 2.0).clamp(min=0).mean()


LOSSES: dict[str, tuple[Callable[..., Any], Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "mse": (lambda x: losses.squared_error(x, 1.5 * ONES), lambda x: F.mse_loss(x, 1.5 * ONES), [(5,)]),
    "huber": (lambda x: losses.huber(3 * x, ONES, 0.7), lambda x: F.huber_loss(3 * x, ONES, delta=0.7), [(5,)]),
    "bce": (
        lambda x: losses.binary_cross_entropy(x.sigmoid(), ONES),
        lambda x: F.binary_cross_entropy(x.sigmoid(), ONES),
        [(5,)],
    ),
    "logits": (
        lambda x: losses.logistic_loss(x, ONES),
        lambda x: F.binary_cross_entropy_with_logits(x, ONES),
        [(5,)],
    ),
    "ce": (lambda x: losses.cross_entropy(x, CLASSES), lambda x: F.cross_entropy(x, CLASSES), [(5, 4)]),
    "contrastive": (lambda a, b: losses.contrastive(a, b, SAME, 2.5), contrasted, [(5, 3), (5, 3)]),
    "triplet": (lambda *x: losses.triplet(*x, margin=2.0), squared_triplet, [(5, 3)] * 3),
    "triplet of distances": (
        lambda *x: losses.triplet(*x, margin=0.5, squared=False),
        lambda *x: F.triplet_margin_loss(*x, margin=0.5, eps=0.0),
        [(5, 3)] * 3,
    ),
}
INNER = {"huber": lambda x: 3 + 0 * x, "bce": lambda x: x.sigmoid() * (1 - x.sigmoid())}  # what the case itself adds


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_torchs(name: str) -> None:
    ours, theirs, shapes = LOSSES[name]
    for _ in range(5):
        x = [normal(*shape).requires_grad_() for shape in shapes]
        expected = theirs(*x)
        slopes = torch.autograd.grad(expected, x)
        loss, found = ours(*(each.detach() for each in x))
        close(loss, expected.detach())
        for one, other, at in zip(found if isinstance(found, tuple) else (found,), slopes, x, strict=True):
            close(one * INNER.get(name, torch.ones_like)(at.detach()), other)


def test_cross_entropy_of_probabilities_and_the_articles_two_gradients() -> None:
    """y-hat - y is by the logits; by the probabilities it is -y / y-hat, and the softmax turns one into the other."""
    z, y = normal(5, 4), torch.softmax(normal(5, 4), 1)
    loss, by_logits = losses.cross_entropy(z, y)
    close(loss, F.cross_entropy(z, y))
    p = activations.softmax(z)
    close(by_logits, (p - y) / 5)
    same, by_p = losses.categorical_cross_entropy(p, y)
    close(same, loss)
    close(activations.softmax_backward(by_p, p), by_logits)
    assert (by_p - by_logits).abs().max() > 0.1


def test_losses_at_their_limits() -> None:
    """Confidently wrong: finite, and the whole error comes back; two equal points of different classes: no NaN."""
    loss, slope = losses.logistic_loss(torch.tensor([-1000.0]), torch.tensor([1.0]))
    assert (loss, slope) == (1000, -1)
    loss, slope = losses.cross_entropy(torch.tensor([[1e4, 0.0]]), torch.tensor([1]))
    assert (loss, slope.tolist()) == (1e4, [[1.0, -1.0]])
    point = torch.ones(1, 2)
    loss, pair = losses.contrastive(point, point, torch.tensor([False]), 2.0)
    assert loss == 2
    assert not pair.left.any()
    assert all(torch.isfinite(each).all() for each in losses.triplet(point, point, point, squared=False)[1])
