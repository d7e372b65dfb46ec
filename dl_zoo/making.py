"""What a generative task makes of noise: samples by a seed, the way from one to another, the plane of two latents.

Of a task only this is known: `noise(count, generator)`, `generate(noise, classes)` and `conditional`. Random states
stay as they are: all draws come from generators of this file's own, on the CPU, so a seed is the same on any device.
"""

from typing import Any

import torch
from torch import Tensor

AT_ONCE = 512  # samples that are made together
DRAWN = 16  # whose noise is drawn together: torch draws a few numbers otherwise than many
FAR = 0.98  # of the normal distribution: how much of each latent its plane shows


def makes_things_up(task: Any) -> bool:
    return all(hasattr(task, name) for name in ("noise", "generate", "conditional"))


def samples(task: Any, count: int, classes: Tensor | None = None, seed: int = 0) -> Tensor:
    """(count, ...); `classes` (count,) where the net takes them. The first ones do not depend on how many follow.

    Raises:
        FloatingPointError: one of them is not finite.
    """
    own, made = torch.Generator().manual_seed(seed), []
    for start in range(0, count, AT_ONCE):
        some = min(AT_ONCE, count - start)
        noise = torch.cat([task.noise(DRAWN, own) for _ in range(0, some, DRAWN)])[:some]
        made.append(of_noise(task, noise, None if classes is None else classes[start : start + some]))
    return torch.cat(made)


def of_noise(task: Any, noise: Tensor, classes: Tensor | None = None) -> Tensor:
    """As `samples`, of this noise (N, ...)."""
    made = []
    for start in range(0, len(noise), AT_ONCE):
        some = noise[start : start + AT_ONCE].to(task.device)
        asked = None if classes is None else classes[start : start + AT_ONCE].to(task.device)
        made.append(task.generate(some, asked))
    every = torch.cat(made)
    if not every.isfinite().all():
        raise FloatingPointError("what it makes up is not finite")
    return every


def between(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """The way from each noise to another, (R, ...) and (R, ...) -> (R * steps, ...), both ends among them.

    Along the great circle (White, "Sampling Generative Networks", 2016, arXiv:1609.04468, section 2.1): half way along
    the straight line normal noise of many dimensions is shorter than any that the net has seen.

    >>> between(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 3)
    tensor([[1.0000, 0.0000],
            [0.7071, 0.7071],
            [0.0000, 1.0000]])
    """
    a, b = (each.flatten(1).double()[:, None] for each in (first, last))  # (R, 1, F)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=2)[..., None].clamp(-1, 1)  # (R, 1, 1)
    angle = cosine.acos().clamp(min=1e-4)  # of equal ones the sines would be 0
    t = torch.linspace(0, 1, steps, dtype=torch.float64, device=a.device).view(1, -1, 1)
    way = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return way.flatten(0, 1).unflatten(1, first.shape[1:]).to(first.dtype)


def plane(side: int) -> Tensor:
    """(side^2, 2): two latents at even quantiles of the normal distribution, from the upper left, row by row.

    Kingma, Welling 2013, arXiv:1312.6114, appendix A: so every part of the picture is equally probable.

    >>> plane(2).round(decimals=2).tolist()
    [[-2.33, 2.33], [2.33, 2.33], [-2.33, -2.33], [2.33, -2.33]]
    """
    values = torch.special.ndtri(torch.linspace(1 - (1 + FAR) / 2, (1 + FAR) / 2, side, dtype=torch.float64))
    y, x = torch.meshgrid(values.flip(0), values, indexing="ij")
    return torch.stack([x, y], dim=2).flatten(0, 1)
