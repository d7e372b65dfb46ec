"""Pictures that are not one tensor in memory: a choice of a mapped file's, files decoded when asked for, enlargements.

To the loader it is a tensor (N, C, H, W) uint8: `len`, `shape`, `device`, `index_select(0, indices)`, `to`.
What it gives for indices depends on these alone, so batches stay pure functions of (seed, epoch, batch).
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from dl_zoo.data.decoding import Unreadable, decoded

log = logging.getLogger("dl_zoo")
THREADS = os.cpu_count() or 1
STEP = 4096  # pictures gathered at once where all are wanted


@runtime_checkable
class Source(Protocol):
    """What a tensor of pictures has too, and `chosen`: a source of some of its items, in this order, without a copy."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def index_select(self, dim: int, index: Tensor) -> Tensor: ...

    def to(self, device: torch.device) -> "Tensor | Source": ...

    def chosen(self, index: Tensor) -> "Source": ...


Inputs = Tensor | Source


def take(inputs: Inputs, index: Tensor) -> Inputs:
    """The items at `index`: of a tensor a copy, of a source a view."""
    return inputs.index_select(0, index) if isinstance(inputs, Tensor) else inputs.chosen(index)


def in_bytes(inputs: Inputs) -> int:
    size = inputs.element_size() if isinstance(inputs, Tensor) else 1
    return inputs.shape.numel() * size


class Chosen:
    """Items `places` (M,) of a tensor that stays where it is, such as a mapped file larger than the memory."""

    device = torch.device("cpu")

    def __init__(self, images: Tensor, places: Tensor):
        self.images, self.places = images, places

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.images.shape[1:]))

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        return self.images.index_select(dim, self.places[index])

    def chosen(self, index: Tensor) -> "Chosen":
        return Chosen(self.images, self.places[index])

    def to(self, device: torch.device) -> Inputs:
        """On the CPU itself; elsewhere a tensor."""
        if device.type == "cpu":
            return self
        there = torch.empty(self.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(self), STEP):
            index = self.places[start : start + STEP]
            there[start : start + STEP] = self.images.index_select(0, index).to(device)
        return there


class Files:
    """Picture files, decoded by a pool of threads whenever they are asked for; `prefetch` begins early.

    Name only files that are known to be pictures (`cache.readable`). One that turns out to be damaged further in is a
    black picture, of which the log has a line.
    """

    device = torch.device("cpu")

    def __init__(self, paths: Sequence[Path], channels: int, size: int):
        self.paths, self.shape = paths, torch.Size((len(paths), channels, size, size))
        self.pool: ThreadPoolExecutor | None = None
        self.under_way: dict[tuple[int, ...], list[Future[Tensor]]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def prefetch(self, index: Tensor) -> None:
        """Starts decoding what the next `index_select` will ask for."""
        self.under_way = {tuple(index.tolist()): self._start(index)}

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        futures = self.under_way.pop(tuple(index.tolist()), None) or self._start(index)
        return torch.stack([future.result() for future in futures])

    def _start(self, index: Tensor) -> list[Future[Tensor]]:
        if self.pool is None:  # only now, so that a copy of this object can be made before
            self.pool = ThreadPoolExecutor(THREADS)
        return [self.pool.submit(self._one, self.paths[i]) for i in index.tolist()]

    def _one(self, path: Path) -> Tensor:
        channels, size = self.shape[1:3]
        try:
            return decoded(path, channels, size)
        except Unreadable as why:
            log.warning("%s %s: a black picture stands for it", path, why)
            return torch.zeros(channels, size, size, dtype=torch.uint8)

    def chosen(self, index: Tensor) -> "Files":
        channels, size = self.shape[1:3]
        return Files([self.paths[i] for i in index.tolist()], channels, size)

    def to(self, device: torch.device) -> "Files":
        """Itself: batches travel."""
        return self


class Resized:
    """Pictures brought to another width when they are asked for, since a stored enlargement would fill the memory."""

    def __init__(self, images: Tensor, size: int):
        self.images, self.size = images, size
        self.shape = torch.Size((*images.shape[:2], size, size))

    @property
    def device(self) -> torch.device:
        return self.images.device

    def __len__(self) -> int:
        return len(self.images)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        return resized(self.images.index_select(dim, index), self.size)

    def chosen(self, index: Tensor) -> "Resized":
        return Resized(self.images.index_select(0, index), self.size)

    def to(self, device: torch.device) -> "Resized":
        return Resized(self.images.to(device), self.size)


def resized(images: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size), uint8, by an antialiased bilinear filter.

    >>> resized(torch.full((2, 3, 32, 32), 7, dtype=torch.uint8), 48).unique()
    tensor([7], dtype=torch.uint8)
    """
    scaled = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)
