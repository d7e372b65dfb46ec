"""How much of a generator's gradient is left where the discriminator is sure that its items are made up?

Goodfellow et al., "Generative Adversarial Nets", 2014, arXiv:1406.2661, section 3: early in learning log(1 - D(G(z)))
saturates, and the generator should raise log D(G(z)) instead. With respect to an item's logit, of which D is the
sigmoid, the gradients are -D and D - 1.
"""

import copy
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items


class Sure(nn.Module):
    """A discriminator that gives every item one logit; gradients pass through it as through the whole one."""

    def __init__(self, inner: nn.Module, logit: float):
        super().__init__()
        self.inner = inner
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        return logits - logits.detach() + self.logit


def saturation(task: Any, data: Any, *, d: float = 0.01, items: int = 256) -> dict[str, float]:
    """Of the task's own loss of the generator, where D(G(z)) is `d` for each of `items` items:

        logit    |dL/dlogit|, the mean over items
        kept     ||dL/dw|| over the generator's weights, over what it is where D(G(z)) is 1/2

    Raises:
        UserError: no generator and discriminator, or no probability.
    """
    if not hasattr(task, "generator_objective"):
        raise UserError("saturation: it asks a generator, and this task has none")
    if not 0 < d < 1:
        raise UserError(f"saturation.d={d}: must be between 0 and 1")
    real, _ = first_items(data, items, next(task.net.parameters()).device)
    original = task.net
    try:
        sizes = []
        for sureness in (d, 0.5):
            task.net = copy.deepcopy(original)
            task.net.discriminator = sure = Sure(task.net.discriminator, log(sureness / (1 - sureness))).to(real.device)
            weights = [*task.net.generator.parameters()]
            with torch.enable_grad():
                gradients = torch.autograd.grad(task.generator_objective(task.seen(real)), [sure.logit, *weights])
            sizes.append(
                [float(torch.cat([g.flatten() for g in some]).norm()) for some in (gradients[:1], gradients[1:])]
            )
    finally:
        task.net = original
    return {"saturation/logit": sizes[0][0], "saturation/kept": sizes[0][1] / sizes[1][1]}
