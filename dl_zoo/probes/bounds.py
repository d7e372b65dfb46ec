"""How near the bound on log p(x) comes to it as more codes are drawn, and whether the divergence is what it should be.

Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", 2016, arXiv:1509.00519, theorem 1: L_1 <= L_k <= L_k+1
<= log p(x), where L_1 is the evidence bound. Kingma, Welling 2013, arXiv:1312.6114, appendix B: the divergence of a
normal posterior from the prior in closed form, which draws z from it must give, too, as the mean of
log q(z | x) - log p(z).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError


@torch.no_grad()
def bounds(task: Any, data: Any, *, samples: Sequence[int] = (1, 5, 50), items: int = 500) -> dict[str, float]:
    """Over the first `items` validation pictures, in nats a picture:

        bounds/l_<k>       L_k for each k of `samples`, by draws of its own, so that nothing but theorem 1 orders them
        bounds/least_step  the least L_k' - L_k of neighbours: below 0 where one came out smaller
        bounds/kl          the divergence in closed form
        bounds/kl_drawn    the same as a mean over the draws of the largest k
        bounds/kl_off      |kl_drawn / kl - 1|

    Raises:
        UserError: `samples` that do not ascend from 1 on, no items, or a task without latents.
    """
    if items < 1 or list(samples) != sorted(set(samples)) or not samples or samples[0] < 1:
        raise UserError(f"samples={list(samples)}, items={items}: numbers of codes ascend from 1 on, items from 1")
    if not hasattr(task, "log_weights"):
        raise UserError("bounds: this task has no latents; task=vae")
    sums = dict.fromkeys(samples, 0.0)
    kl = drawn = count = 0.0
    for x, classes in explained(task, data, items):
        mean, log_variance = task.net.encode(x, classes)
        for k in samples:
            noise = torch.randn(k, *mean.shape, device=mean.device)
            sums[k] += float((task.log_weights(x, noise, classes).logsumexp(0) - math.log(k)).sum())
        z = mean + (log_variance / 2).exp() * noise  # of the largest k
        drawn += float(0.5 * (z.square() - log_variance - noise.square()).sum()) / samples[-1]
        kl += float(0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum())
        count += len(x)
    found = {f"l_{k}": value / count for k, value in sums.items()}
    steps = [after - before for before, after in pairwise(found.values())]
    found |= {"least_step": min(steps)} if steps else {}
    found |= {"kl": kl / count, "kl_drawn": drawn / count, "kl_off": abs(drawn / kl - 1) if kl else 0.0}
    return {f"bounds/{name}": value for name, value in found.items()}


def explained(task: Any, data: Any, items: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Validation pictures as the task explains them, pixels in 0..1, with the classes that its net is told, if any."""
    device = next(task.net.parameters()).device
    left = items
    for batch in data.loader("val"):
        x, targets = (each[:left].to(device) for each in batch)
        yield task.shown(x), task.told(targets)
        left -= len(x)
        if left <= 0:
            return
