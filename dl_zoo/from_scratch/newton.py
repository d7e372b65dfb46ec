"""Second-order descent without a matrix: Newton's step by conjugate gradients, and L-BFGS, both with a line search.

Nocedal, Wright, "Numerical Optimization", 2nd edition, 2006: algorithms 7.1 (Newton-CG), 7.4 and 7.5 (L-BFGS); and
section 3.1 (Wolfe's conditions on the length of a step).

Near w the loss is about J(w) + g^T p + p^T H p / 2, least where H p = -g. Newton-CG solves that by products H p alone;
L-BFGS guesses H^-1 from how the gradient changed over its last m steps.

Letters: w (d,) the point, g (d,) its gradient, H (d, d) the Hessian, p (d,) a direction, a a step's length. The article
(section 4.2) names the cost of a step as what keeps such methods out of deep learning; the other reason is that both
want the loss of all items, since a curvature told from two different batches is mostly noise.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Tensor], tuple[float, Tensor]]  # w -> J(w), dJ/dw
Product = Callable[[Tensor, Tensor], Tensor]  # (w, p) -> H(w) p
Pair = tuple[Tensor, Tensor]  # of one step: s = change of w, y = change of g
LEAST, STEEP = 1e-4, 0.9  # c_1 and c_2 of the Wolfe conditions, as in the book


class Minimum(NamedTuple):
    w: Tensor
    losses: list[float]  # at the start and after each step
    calls: int  # of the loss
    products: int = 0  # H p that were asked for


class Point(NamedTuple):
    """A point on the line w + a p: phi(a) = J(w + a p) with slope phi'(a) = g^T p."""

    a: float
    value: float
    slope: float
    w: Tensor
    g: Tensor


def by_differences(loss: Loss, w: Tensor, p: Tensor) -> Tensor:
    """H p = (g(w + e p) - g(w - e p)) / 2e up to e^2: two gradients instead of a matrix."""
    e = torch.finfo(w.dtype).eps ** (1 / 3) * (1 + float(w.norm())) / max(float(p.norm()), 1e-300)
    return (loss(w + e * p)[1] - loss(w - e * p)[1]) / (2 * e)


def conjugate_gradients(
    times: Callable[[Tensor], Tensor], g: Tensor, tolerance: float, most: int
) -> tuple[Tensor, int]:
    """p with |H p + g| <= tolerance, and how many products it took; d of them are enough for any H of full rank.

    Where the curvature q^T H q is not positive there is no minimum to go to: what was found up to there, or -g.
    """
    p, r = torch.zeros_like(g), g  # r = H p + g
    q = -r
    for k in range(most):
        if r.norm() <= tolerance:
            return p, k
        hq = times(q)
        curvature = q @ hq
        if curvature <= 0:
            return (p if k else -g), k + 1
        a = (r @ r) / curvature
        p, new = p + a * q, r + a * hq
        q = -new + (new @ new) / (r @ r) * q  # conjugate to all before: q_i^T H q_j = 0
        r = new
    return p, most


def newton_cg(
    loss: Loss, w: Tensor, product: Product | None = None, *, steps: int = 100, tolerance: float = 1e-8
) -> Minimum:
    """Minimise from w until |g| <= tolerance; `product` by differences of gradients unless given.

    The system is solved the better the smaller g is, to min(1/2, sqrt|g|) |g|: superlinear at the end, cheap before.
    """
    calls, products = Counted(loss), 0
    times = product or (lambda w, p: by_differences(calls, w, p))
    value, g = calls(w)
    losses = [value]
    for _ in range(steps):
        size = float(g.norm())
        if size <= tolerance:
            break
        p, asked = conjugate_gradients(lambda q, w=w: times(w, q), g, min(0.5, size**0.5) * size, 2 * len(w))  # type: ignore[misc]
        products += asked
        found = line_search(calls, w, value, g, p)
        if found is None:  # no lower point that rounding can tell
            break
        w, value, g = found.w, found.value, found.g
        losses.append(value)
    return Minimum(w, losses, calls.number, products)


def lbfgs(loss: Loss, w: Tensor, *, memory: int = 10, steps: int = 100, tolerance: float = 1e-8) -> Minimum:
    """Liu, Nocedal, "On the limited memory BFGS method for large scale optimization", 1989. Minimise from w."""
    calls, pairs = Counted(loss), list[Pair]()
    value, g = calls(w)
    losses = [value]
    for _ in range(steps):
        if g.norm() <= tolerance:
            break
        found = line_search(calls, w, value, g, -times_inverse(pairs, g))
        if found is None:
            break
        s, y = found.w - w, found.g - g
        if s @ y > 0:  # else no positive definite matrix maps one to the other
            pairs = [*pairs, (s, y)][-memory:]
        w, value, g = found.w, found.value, found.g
        losses.append(value)
    return Minimum(w, losses, calls.number)


def times_inverse(pairs: list[Pair], g: Tensor) -> Tensor:
    """H^-1 g as BFGS would have it after the steps in `pairs`: two loops over them (algorithm 7.4)."""
    q, shares = g, []
    for s, y in reversed(pairs):
        share = (s @ q) / (s @ y)  # alpha_i = s_i^T q / y_i^T s_i
        q = q - share * y
        shares.append(share)
    if pairs:
        s, y = pairs[-1]
        q = q * (s @ y) / (y @ y)  # H_0^-1 = (s^T y / y^T y) I, eq. 7.20
    else:
        q = q / q.norm().clamp(min=1)  # nothing is known yet: a step of length 1 at most
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        q = q + s * (share - (y @ q) / (s @ y))
    return q


def line_search(loss: Loss, w: Tensor, value: float, g: Tensor, p: Tensor, most: int = 50) -> Point | None:
    """A point w + a p that meets the Wolfe conditions (3.6); where rounding hides one the best met, None if none.

        phi(a) <= phi(0) + c_1 a phi'(0)      it fell as much as the slope promised, to a share
        phi'(a) >= c_2 phi'(0)                and is not as steep any more, so s^T y > 0

    a = 1 is tried first, Newton's own step. What breaks the first condition is too far, what breaks the second not far
    enough: a doubles until it was too far, then the interval is halved.
    """
    slope, near, far, a = float(g @ p), Point(0.0, value, 0.0, w, g), None, 1.0
    if slope >= 0:  # p goes uphill
        return None
    for _ in range(most):
        new, gradient = loss(w + a * p)
        at = Point(a, new, float(gradient @ p), w + a * p, gradient)
        if not at.value <= value + LEAST * a * slope:  # also where it is not a number
            far = a
        elif at.slope < STEEP * slope:
            near = at
        else:
            return at
        a = 2 * a if far is None else (near.a + far) / 2
    return near if near.a > 0 else None


class Counted:
    """A loss that counts how often it is asked."""

    def __init__(self, loss: Loss):
        self.loss, self.number = loss, 0

    def __call__(self, w: Tensor) -> tuple[float, Tensor]:
        self.number += 1
        return self.loss(w)
