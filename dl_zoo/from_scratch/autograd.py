"""Reverse-mode automatic differentiation: a graph of nodes, each of which knows how to pass a gradient to its inputs.

Linnainmaa, "Taylor expansion of the accumulated rounding error", 1976, BIT 16; Speelpenning, "Compiling fast partial
derivatives of functions given by algorithms", 1980; a survey: Baydin, Pearlmutter, Radul, Siskind, 2018,
arXiv:1502.05767, section 3.2.

Let v_1 .. v_n be the values in the order in which they are computed, L = v_n the last, and write v' for dL/dv. Then
v_n' = 1, and by the chain rule

    v_i' = sum over the uses j of v_i:  v_j' dv_j/dv_i

so one sweep from the last node to the first finds all of them. Each factor dv_j/dv_i is a Jacobian that is never
formed: a node holds, for each of its inputs, the function `pull` that turns v_j' into v_j' dv_j/dv_i. The cost is a few
times that of computing L, however many inputs there are; the price is memory, since a `pull` keeps the values it needs.

The chain rule of the article's section 1.3.1 is a product along one path. A value that is used twice lies on several
paths, and their products add up; so does one weight for all examples of a batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Pull = Callable[[Tensor], Tensor]


class Node:
    """A value and where it came from. A leaf has no inputs; numbers and tensors met on the way become leaves.

    >>> x, w = Node(torch.tensor([1.0, 2.0])), Node(torch.tensor([3.0, 5.0]))
    >>> loss = (x * w).sum() + (w * w).sum()
    >>> gradients(loss)[w]  # x + 2 w
    tensor([ 7., 12.])
    """

    def __init__(self, value: Tensor, *inputs: tuple["Node", Pull]):
        self.value = value.detach()  # torch's own graph is left out of it
        self.inputs = inputs

    def lifted(self, other: "Node | Tensor | float") -> "Node":
        """A number takes this node's type: 0.1 in float32 is not 0.1 in float64."""
        if isinstance(other, Node):
            return other
        return Node(other if isinstance(other, Tensor) else torch.tensor(other, dtype=self.value.dtype))

    # ---- sums and products: shapes broadcast, and `gradients` sums over what was repeated ----

    def __add__(self, other: "Node | Tensor | float") -> "Node":
        other = self.lifted(other)
        return Node(self.value + other.value, (self, lambda g: g), (other, lambda g: g))  # d(a + b) = da + db

    def __mul__(self, other: "Node | Tensor | float") -> "Node":
        other = self.lifted(other)
        a, b = self.value, other.value
        return Node(a * b, (self, lambda g: g * b), (other, lambda g: g * a))  # d(a b) = b da + a db

    def __truediv__(self, other: "Node | Tensor | float") -> "Node":
        other = self.lifted(other)
        a, b = self.value, other.value
        return Node(a / b, (self, lambda g: g / b), (other, lambda g: -g * a / b**2))  # d(a/b) = da / b - a db / b^2

    def __matmul__(self, other: "Node | Tensor") -> "Node":
        """(..., n, k) @ (..., k, m). ValueError: a vector, which must be reshaped to one row or one column."""
        other = self.lifted(other)
        a, b = self.value, other.value
        if min(a.ndim, b.ndim) < 2:
            raise ValueError(f"{tuple(a.shape)} @ {tuple(b.shape)}: both must be matrices; reshape the vector")
        return Node(a @ b, (self, lambda g: g @ b.mT), (other, lambda g: a.mT @ g))  # A' = G B^T, B' = A^T G

    def __neg__(self) -> "Node":
        return self * -1.0

    def __sub__(self, other: "Node | Tensor | float") -> "Node":
        return self + -self.lifted(other)

    def __rsub__(self, other: "Tensor | float") -> "Node":
        return self.lifted(other) - self

    def __rtruediv__(self, other: "Tensor | float") -> "Node":
        return self.lifted(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def __rmatmul__(self, other: Tensor) -> "Node":
        return self.lifted(other) @ self

    # ---- functions of each element ----

    def __pow__(self, n: float) -> "Node":
        a = self.value
        slope = n * a ** (n - 1) if n else torch.zeros_like(a)  # a^0 = 1 for every a, and 0 * 0^-1 is no number
        return Node(a**n, (self, lambda g: g * slope))  # d(a^n) = n a^(n-1) da

    def exp(self) -> "Node":
        y = self.value.exp()
        return Node(y, (self, lambda g: g * y))  # d(e^a) = e^a da

    def log(self) -> "Node":
        a = self.value
        return Node(a.log(), (self, lambda g: g / a))  # d(log a) = da / a

    def tanh(self) -> "Node":
        y = self.value.tanh()
        return Node(y, (self, lambda g: g * (1 - y**2)))  # d(tanh a) = (1 - tanh^2 a) da

    def relu(self) -> "Node":
        a = self.value
        return Node(a.clamp(min=0), (self, lambda g: g * (a > 0)))  # d max(0, a) = da where a > 0; 0 at the kink

    # ---- shapes: what is moved or copied forwards is moved back, or summed ----

    def sum(self, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> "Node":
        a, dims = self.value, over(dim, self.value.ndim)
        y = a.sum(dims, keepdim=keepdim) if dims else a
        return Node(y, (self, lambda g: beside(g, dims, keepdim).expand(a.shape)))  # d(sum a_i)/da_i = 1

    def mean(self, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> "Node":
        total = self.sum(dim, keepdim)
        return total / (self.value.numel() / total.value.numel())

    def amax(self, dim: int | tuple[int, ...], keepdim: bool = False) -> "Node":
        """Several largest share the gradient in equal parts, as torch's do."""
        a, dims = self.value, over(dim, self.value.ndim)
        top = (a == a.amax(dims, keepdim=True)).to(a.dtype)
        share = top / top.sum(dims, keepdim=True)  # d(max a)/da_i = 1 at the largest, else 0
        return Node(a.amax(dims, keepdim=keepdim), (self, lambda g: beside(g, dims, keepdim) * share))

    def reshape(self, *shape: int) -> "Node":
        a = self.value
        return Node(a.reshape(*shape), (self, lambda g: g.reshape(a.shape)))

    def transpose(self, one: int, other: int) -> "Node":
        return Node(self.value.transpose(one, other), (self, lambda g: g.transpose(one, other)))

    def __getitem__(self, index: object) -> "Node":
        """Any index of torch's; an element that is taken twice gets both gradients."""
        a = self.value
        places = torch.arange(a.numel(), device=a.device).reshape(a.shape)[index].reshape(-1)  # type: ignore[index]
        return Node(
            a[index],  # type: ignore[index]
            (self, lambda g: a.new_zeros(a.numel()).index_add(0, places, g.reshape(-1)).reshape(a.shape)),
        )


def over(dim: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """Dimensions counted from the front, in order; None means all."""
    chosen = range(ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    return tuple(sorted(each % ndim for each in chosen)) if ndim else ()


def beside(g: Tensor, dims: tuple[int, ...], kept: bool) -> Tensor:
    """A gradient with its summed dimensions put back, of size 1."""
    for each in () if kept else dims:
        g = g.unsqueeze(each)
    return g


def topological(output: Node) -> list[Node]:
    """Every node that `output` came of, inputs before what uses them. A stack, since Python's own is soon full."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(output, False)]
    while stack:
        node, after = stack.pop()
        if after:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))  # comes up again when all its inputs are in the order
            stack.extend((each, False) for each, _ in node.inputs)
    return order


def gradients(output: Node) -> dict[Node, Tensor]:
    """dL/dv for each node v that L = `output` came of, shaped as v. ValueError: L is not one number."""
    if output.value.numel() != 1:
        raise ValueError(f"the output has shape {tuple(output.value.shape)}: a gradient is that of one number; sum it")
    found = {output: torch.ones_like(output.value)}  # v_n' = 1
    for node in reversed(topological(output)):  # all uses of a node come before it
        for each, pull in node.inputs:
            share = summed_to(pull(found[node]), each.value.shape)  # v_j' dv_j/dv_i
            found[each] = found[each] + share if each in found else share  # v_i' = sum over its uses
    return found


def summed_to(g: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of a value that was broadcast: a sum over its copies.

    >>> summed_to(torch.ones(4, 2, 3), torch.Size([2, 1]))
    tensor([[12.],
            [12.]])
    """
    g = g.sum(tuple(range(g.ndim - len(shape)))) if g.ndim > len(shape) else g  # dimensions put in front
    stretched = tuple(i for i, size in enumerate(shape) if size == 1 and g.shape[i] != 1)
    return g.sum(stretched, keepdim=True) if stretched else g
