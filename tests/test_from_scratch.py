"""The foundations in plain tensors: each equal to torch's, outputs and gradients, in float64."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

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
