"""The update rules as optimizers that a training loop can hold: groups of parameters, memories in a checkpoint.

Each class goes over the parameters and calls its function of `update_rules`, one parameter at a time and each
operation by itself: to be read, not to be fast. Trajectories are those of torch's optimizers of the same arguments.

`weight_decay` adds lambda w to the gradient, which is the gradient of the penalty lambda/2 |w|^2.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from dl_zoo.from_scratch import update_rules as rules

Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]
Memory = dict[str, Any]  # of one parameter: what a rule remembers, by name; zeros before the first step


class FromScratch(Optimizer):
    """A subclass says in `update` what a parameter becomes, and in `memories` what is remembered of each.

    ValueError: a number outside of what its rule allows.
    """

    memories: tuple[str, ...] = ()

    def __init__(self, parameters: Parameters, **numbers: Any):
        for name, value in numbers.items():
            if name in ("lr", "eps", "weight_decay") and not value >= 0:
                raise ValueError(f"{name}={value}: must be at least 0")
            if name in ("momentum", "alpha") and not 0 <= value < 1:
                raise ValueError(f"{name}={value}: must be at least 0 and below 1")
            if name == "betas" and not (len(value) == 2 and all(0 <= beta < 1 for beta in value)):
                raise ValueError(f"betas={[*value]}: must be two numbers of at least 0 and below 1")
        super().__init__(parameters, numbers)

    def update(self, w: Tensor, g: Tensor, memory: Memory, group: dict[str, Any]) -> Tensor:
        """w after a step against g; memory's tensors are replaced."""
        raise NotImplementedError

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._move(w, w.grad, group)
        return loss

    def _move(self, w: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        memory = self.state[w]
        if not memory:
            memory["step"] = 0
            memory.update({name: torch.zeros_like(w) for name in self.memories})
        memory["step"] += 1
        if group["weight_decay"] != 0:
            g = g + group["weight_decay"] * w  # g + lambda w
        w.copy_(self.update(w, g, memory, group))


class GradientDescent(FromScratch):
    def __init__(self, parameters: Parameters, lr: float = 0.1, weight_decay: float = 0.0):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)

    def update(self, w: Tensor, g: Tensor, memory: Memory, group: dict[str, Any]) -> Tensor:
        return rules.gradient_descent(w, g, group["lr"])


class Momentum(FromScratch):
    """Polyak's, or with `nesterov` his."""

    memories = ("v",)

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 0.02,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def update(self, w: Tensor, g: Tensor, memory: Memory, group: dict[str, Any]) -> Tensor:
        rule = rules.nesterov if group["nesterov"] else rules.momentum
        w, memory["v"] = rule(w, g, memory["v"], group["lr"], group["momentum"])
        return w


class AdaGrad(FromScratch):
    memories = ("s",)

    def __init__(self, parameters: Parameters, lr: float = 0.01, eps: float = 1e-10, weight_decay: float = 0.0):
        super().__init__(parameters, lr=lr, eps=eps, weight_decay=weight_decay)

    def update(self, w: Tensor, g: Tensor, memory: Memory, group: dict[str, Any]) -> Tensor:
        w, memory["s"] = rules.adagrad(w, g, memory["s"], group["lr"], group["eps"])
        return w


class RMSprop(FromScratch):
    memories = ("s",)

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        alpha: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay)

    def update(self, w: Tensor, g: Tensor, memory: Memory, group: dict[str, Any]) -> Tensor:
        w, memory["s"] = rules.rmsprop(w, g, memory["s"], group["lr"], group["alpha"], group["eps"])
        return w


class Adam(FromScratch):
    """`bias_correction=False` leaves out the division of both means by 1 - beta^t, which torch's has no switch for."""

    memories = ("m", "v")

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        bias_correction: bool = True,
        weight_decay: float = 0.0,
    ):
        numbers = {"eps": eps, "bias_correction": bias_correction, "weight_decay": weight_decay}
        super().__init__(parameters, lr=lr, betas=betas, **numbers)

    def update(self, w: Tensor, g: Tensor, memory: Memory, group: dict[str, Any]) -> Tensor:
        m, v, t = memory["m"], memory["v"], memory["step"]
        lr, betas, eps = group["lr"], group["betas"], group["eps"]
        w, memory["m"], memory["v"] = rules.adam(w, g, m, v, t, lr, betas, eps, group["bias_correction"])
        return w
