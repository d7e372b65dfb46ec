"""Shapes: generated pictures of six outlines, coloured on a noisy ground, so that colour nets run without a download.

Each picture, 32x32 in colour, holds one shape of random place, size, turn and colour, on a ground of another colour;
noise lies over all of it. So neither colour nor place tells the class. Drawn when asked for; made in 0.3 s.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data.memory import Split
from dl_zoo.data.pictures import PictureData
from dl_zoo.data.sources import Inputs, Resized
from dl_zoo.errors import UserError

WIDTH = 32
CONTRAST = 0.25  # mean distance of the shape's three colours from the ground's, at the least


class Shapes(PictureData):
    """Settings: see PictureData. `data_dir` is not used. `noise`: deviation of a uniform one, where values are in 0..1.

    Training, validation and test pictures are draws of their own, the same whatever the seed of a run, and have every
    class in equal number to within one. Other sizes than 32 are bilinear, made batch by batch.
    """

    classes = ["circle", "ring", "square", "triangle", "cross", "stripes"]  # noqa: RUF012
    sizes = {"train": 2000, "val": 400, "test": 400}  # noqa: RUF012

    def __init__(self, dims: Mapping[str, Any], *, noise: float = 0.15, **settings: Any):
        super().__init__(dims, **settings)
        if noise < 0:
            raise UserError(f"data.noise={noise}: must be at least 0")
        self.noise = noise

    def read(self) -> dict[str, Split]:
        counts = {"train": 2000, "val": 400, "test": 400}
        return {part: drawn(count, self.noise, draw) for draw, (part, count) in enumerate(counts.items())}

    def fit_to(self, images: Inputs, size: int) -> Inputs:
        assert isinstance(images, Tensor)
        return images if size == WIDTH else Resized(images, size)


def drawn(count: int, noise: float, draw: int) -> tuple[Tensor, Tensor]:
    """The `draw`-th sample: pictures (count, 3, 32, 32) uint8, and classes (count,), in turn.

    NumPy's legacy generator draws, since its stream is frozen (NEP 19): the test set stays the same for good.
    """
    random = np.random.RandomState(draw)
    targets = np.arange(count) % len(Shapes.classes)
    radius = random.uniform(7, 12, (count, 1, 1)).astype(np.float32)
    middle = random.uniform(-1, 1, (2, count, 1, 1)).astype(np.float32) * (WIDTH / 2 - 1 - radius) + WIDTH / 2
    turn = random.uniform(0, 2 * np.pi, (count, 1, 1)).astype(np.float32)
    ground, colour = _colours(random, count)
    pixels = np.arange(WIDTH, dtype=np.float32) + 0.5
    x, y = (pixels[None, None, :] - middle[0]) / radius, (pixels[None, :, None] - middle[1]) / radius
    inside = _inside(x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn))
    values = np.where(inside[:, None], colour[:, :, None, None], ground[:, :, None, None])  # (N, 3, 32, 32)
    uniform = np.frombuffer(random.bytes(values.size), np.uint8).reshape(values.shape).astype(np.float32)
    values += (uniform - 127.5) * (noise * np.sqrt(12) * 255 / 256)  # bytes 0..255 have a deviation of 256 / sqrt(12)
    return torch.from_numpy(values.clip(0, 255).round().astype(np.uint8)), torch.from_numpy(targets)


def _inside(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Which pixels (N, 32, 32) belong to the shapes, whose classes come in turn; u and v: their own axes, radius 1."""
    masks = [
        lambda u, v: u**2 + v**2 <= 1,
        lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.36),
        lambda u, v: np.maximum(abs(u), abs(v)) <= 0.71,
        lambda u, v: (v >= -0.5) & (0.866 * abs(u) + 0.5 * v <= 0.5),
        lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.25) & (np.maximum(abs(u), abs(v)) <= 0.95),
        lambda u, v: (u**2 + v**2 <= 1) & (np.floor(2.5 * u + 0.5) % 2 == 0),
    ]
    inside = np.empty(u.shape, bool)
    for number, mask in enumerate(masks):
        own = slice(number, None, len(masks))
        inside[own] = mask(u[own], v[own])
    return inside


def _colours(random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of ground and shape, each (N, 3) float32 in 0..255: uniform, the shape's moved where the two are near."""
    ground, colour = random.uniform(0, 1, (2, count, 3))
    near = abs(ground - colour).mean(1) < CONTRAST
    colour[near] = (ground[near] + 0.5) % 1  # half the range away in each
    return 255 * ground.astype(np.float32), 255 * colour.astype(np.float32)
