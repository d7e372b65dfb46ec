"""A series made of waves, generated: a day, a week, a slow drift, and noise that nobody can forecast.

    x_t = sum_i a_i sin(2 pi t / p_i + phase_i) + trend t / steps + noise e_t

in each of several columns with its own phases and sizes a_i in 0.5..1.5; periods p_i are 24 and 168 steps (hours of a
day and of a week) and a slow one of a third of the series. The noise's variance is the least error that there can be,
in units before scaling. The same whatever the seed of a run.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data.memory import at_least_one, seeded
from dl_zoo.data.series import SPLITS, SeriesData
from dl_zoo.errors import UserError

PERIODS = (24, 168)


class SineSeries(SeriesData):
    """See `SeriesData`; 60 % of the steps are for training, 20 % each for validation and test.

    Args:
        steps, columns: of the series.
        trend: how much it grows from end to end, in its own units.
        noise: deviation of what is added at random.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        steps: int = 3000,
        columns: int = 3,
        trend: float = 1.0,
        noise: float = 0.2,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("steps", steps)
        at_least_one("columns", columns)
        if noise < 0:
            raise UserError(f"data.noise={noise}: must not be negative")
        self.steps, self.columns, self.trend, self.noise = steps, columns, trend, noise

    def measured(self) -> tuple[Tensor, list[str], int, list[int]]:
        random, t = np.random.RandomState(0), np.arange(self.steps)[:, None]
        values = self.trend * t / self.steps + self.noise * random.randn(self.steps, self.columns)
        for period in (*PERIODS, self.steps / 3):
            size, phase = random.uniform(0.5, 1.5, self.columns), random.uniform(0, 2 * np.pi, self.columns)
            values += size * np.sin(2 * np.pi * t / period + phase)
        names = [f"x{column + 1}" for column in range(self.columns)]
        return torch.from_numpy(values), names, self.columns, [self.steps * share // 5 for share in (3, 4, 5)]

    def pretend(self, items: int) -> None:
        one = self.pretended_windows(items, self.columns, self.columns, seeded(self.seed))
        self.dims = self._agreed_dims(one[0])
        self.splits = dict.fromkeys(SPLITS, one)
