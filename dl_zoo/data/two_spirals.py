"""Two spirals, one wound into the other: two classes that no plane and no small number of planes separates.

Lang, Witbrock, "Learning to Tell Two Spirals Apart", 1988, Proc. Connectionist Models Summer School: the points

    t in 0 .. 96,    angle = pi t / 16,    radius = 6.5 (104 - t) / 104,    (x, y) = radius (sin angle, cos angle)

which are three turns, and the same points negated. At every angle the two arms are 1 apart.

Departs: they had the 97 whole t of each spiral, without noise, and no test set. Here t is uniform in 0..96, and both
coordinates get normal noise of deviation `noise`; `noise=0` leaves the points on the curves.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data.memory import MemoryData, Split, at_least_one
from dl_zoo.errors import UserError


class TwoSpirals(MemoryData):
    """`points` of each spiral in each split: inputs (B, 2) float32 in about -7..7, targets 0 and 1 in equal numbers.

    Each split is a draw of its own, the same whatever the seed of a run. `repeats`: copies of the training points in an
    epoch, since each epoch ends with a validation and a checkpoint. `data_dir` is not used.
    """

    classes = ["first", "second"]  # noqa: RUF012

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        data_dir: str = "data",
        batch_size: int = 100,
        points: int = 500,
        noise: float = 0.1,
        repeats: int = 10,
        seed: int = 0,
    ):
        super().__init__(dims, data_dir=data_dir, batch_size=batch_size, seed=seed)
        at_least_one("points", points)
        at_least_one("repeats", repeats)
        if noise < 0:
            raise UserError(f"data.noise={noise}: must be at least 0")
        self.points, self.noise, self.repeats = points, noise, repeats
        self.sizes = {"train": repeats * 2 * points, "val": 2 * points, "test": 2 * points}

    def read(self) -> dict[str, Split]:
        inputs, targets = spirals(self.points, self.noise, draw=0)
        train = inputs.repeat(self.repeats, 1), targets.repeat(self.repeats)
        return {"train": train, "val": spirals(self.points, self.noise, 1), "test": spirals(self.points, self.noise, 2)}


def spirals(points: int, noise: float, draw: int) -> tuple[Tensor, Tensor]:
    """The `draw`-th sample: (2 `points`, 2) and classes, the first spiral's points first.

    NumPy's legacy generator draws, since its stream is frozen (NEP 19): the test set stays the same for good.
    """
    random = np.random.RandomState(draw)
    t = random.uniform(0, 96, (2, points))
    angle, radius = np.pi * t / 16, 6.5 * (104 - t) / 104
    radius[1] *= -1
    curve = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=2)  # (2, points, 2)
    inputs = torch.from_numpy(curve + noise * random.standard_normal(curve.shape)).float()
    return inputs.flatten(0, 1), torch.arange(2).repeat_interleave(points)
