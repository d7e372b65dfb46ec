"""Learning without backpropagation: shake all weights at once, and keep to the direction in which the loss fell.

Jabri, Flower, "Weight Perturbation", 1992, IEEE Trans. Neural Networks 3(1); Werfel, Xie, Seung, "Learning Curves for
Stochastic Gradient Descent in Linear Feedforward Networks", 2005, Neural Computation 17(12). With v ~ N(0, 1) for each
of the P weights, and g the gradient,

    w <- w - eta [L(w + eps v) - L(w)] / eps  v        and        [L(w + eps v) - L(w)] / eps = v . g + O(eps)

so the mean of a step, E[v v^T] g = g, is the gradient's. But the loss is one number for all weights, which does not
say whose doing it was: that is the credit assignment problem. Its price is noise: |v (v . g)|^2 is |g|^2 (P + 2) in the
mean, so the rate must be about P times smaller than that of the gradient, and learning takes about P times as long.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer


def perturbed_step(
    w: list[Tensor], loss: Callable[[list[Tensor]], Tensor], lr: float, eps: float, generator: Generator
) -> list[Tensor]:
    """One step from w, a list of tensors of any shapes, in two evaluations of the loss."""
    v = [torch.randn(each.shape, generator=generator, dtype=each.dtype) for each in w]  # v ~ N(0, 1)
    before, after = loss(w), loss([each + eps * way for each, way in zip(w, v, strict=True)])
    slope = (after - before) / eps  # [L(w + eps v) - L(w)] / eps
    return [each - lr * slope * way for each, way in zip(w, v, strict=True)]  # w - eta slope v


class WeightPerturbation(Optimizer):
    """`perturbed_step` in a training loop, which hands over a closure that computes the loss of the batch.

    The loop's closure runs backwards too; those gradients are looked at by nobody here, but take their time. Both
    evaluations draw the same random numbers, so that dropout hides the same units in both.

    ValueError: a number outside of what the rule allows. RuntimeError: a step without a closure.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, eps: float = 1e-3):
        if not (lr >= 0 and eps > 0):
            raise ValueError(f"lr={lr}, eps={eps}: must be at least 0, and above 0")
        super().__init__(parameters, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float:  # type: ignore[override]
        if closure is None:
            raise RuntimeError("weight perturbation asks for the loss twice a step: step(closure)")
        moved = [(w, torch.randn_like(w), group) for group in self.param_groups for w in group["params"]]
        with torch.random.fork_rng(), torch.enable_grad():
            before = float(closure())  # L(w)
        for w, v, group in moved:
            w.add_(v, alpha=group["eps"])  # w + eps v
        with torch.enable_grad():
            after = float(closure())  # L(w + eps v)
        for w, v, group in moved:
            slope = (after - before) / group["eps"]
            w.sub_(v, alpha=group["eps"] + group["lr"] * slope)  # back to w, and on by -eta slope v
        return before
