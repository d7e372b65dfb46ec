"""Principal components as an autoencoder: the linear code that loses least, beside the net's.

Pearson 1901; Bourlard, Kamp, "Auto-association by multilayer perceptrons and singular value decomposition", Biological
Cybernetics 59, 1988: no linear encoder and decoder of so many numbers have a smaller squared error on what they were
fitted to. Hinton and Salakhutdinov 2006 (figure 2) set a deep autoencoder beside it.
"""

from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError


@torch.no_grad()
def principal(task: Any, data: Any, *, components: int = 20) -> dict[str, float]:
    """Squared error a pixel, in 0..1, of validation pictures said again:

        principal/net     by the task's net
        principal/pca     by `components` principal components of the training pictures, and their mean
        principal/ratio   the first over the second

    UserError: fewer than 1 component or more than there are pixels, or a task that says no pictures again.
    """
    if not hasattr(task, "reconstruct"):
        raise UserError("principal: this task says no pictures again; task=vae or task=autoencoding")
    device = next(task.net.parameters()).device
    train = torch.cat([task.shown(x.to(device)).flatten(1) for x, _ in data.loader("train")])  # (N, F)
    if not 1 <= components <= train.shape[1]:
        raise UserError(f"components={components}: must be from 1 to {train.shape[1]}, the numbers of a picture")
    middle = train.mean(0)
    directions = torch.linalg.eigh(torch.cov(train.T)).eigenvectors[:, -components:]  # (F, components)
    sums, items = {"net": 0.0, "pca": 0.0}, 0
    for batch in data.loader("val"):
        x = task.shown(batch[0].to(device))
        classes = batch[1].to(device) if getattr(task, "conditional", False) else None
        away = x.flatten(1) - middle
        sums["pca"] += squared(away @ directions @ directions.T, away)
        sums["net"] += squared(task.reconstruct(x, classes), x)
        items += x.numel()
    found = {name: value / items for name, value in sums.items()}
    return {f"principal/{name}": value for name, value in (found | {"ratio": found["net"] / found["pca"]}).items()}


def squared(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().sum())
