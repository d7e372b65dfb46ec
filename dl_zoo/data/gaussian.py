"""Points from one Gaussian: the data whose density, and so every optimum over them, is known in closed form."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_zoo.data.drawn import Drawn
from dl_zoo.data.memory import at_least_one
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError


class Gaussian(Drawn):
    """Inputs (N, D) float32, each coordinate normal with `mean` and `deviation`; targets are 0 and mean nothing."""

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        features: int = 1,
        mean: float = 0.0,
        deviation: float = 1.0,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("features", features)
        if deviation <= 0:
            raise UserError(f"data.deviation={deviation}: must be above 0")
        self.features, self.mean, self.deviation = features, mean, deviation

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        noise = random.standard_normal((count, self.features))
        return self.mean + self.deviation * noise, np.zeros(count, dtype=np.int64)

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        return {"features": self.features}
