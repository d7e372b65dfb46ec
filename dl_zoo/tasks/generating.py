"""What tasks of nets that make things up share: the scale of pictures, the noise of evaluation, its measures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def pixels(x: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """Normalised pictures (B, C, H, W) in 0..1 again; anything else, where there is no mean, as it is."""
    if mean is None or std is None:
        return x
    middle, spread = (torch.tensor(each, device=x.device).view(-1, 1, 1) for each in (mean, std))
    return (x * spread + middle).clamp(0, 1)


@contextmanager
def still(net: nn.Module) -> Iterator[None]:
    """In evaluation mode while open, and then as it was."""
    training = net.training
    try:
        net.eval()
        yield
    finally:
        net.train(training)


def own_noise(shape: Sequence[int], batch_index: int, device: torch.device) -> Tensor:
    """Standard normal, for batch `batch_index` of an evaluation: the same in every one, on every device."""
    own = torch.Generator().manual_seed(batch_index)
    return torch.randn(tuple(shape), generator=own).to(device)


def quality(task: Any, split: str) -> dict[str, float]:
    """How good what the task makes up is, beside a split of its data; {} where nothing is to be measured."""
    return {}
