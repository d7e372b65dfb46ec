"""Points from several narrow Gaussians: what a generator that drops modes is caught on.

Metz, Poole, Pfau, Sohl-Dickstein, "Unrolled Generative Adversarial Networks", 2017, arXiv:1611.02163, section 3.1:
eight Gaussians of deviation 0.02 on a circle of radius 2. Srivastava, Valkov, Russell, Gutmann, Sutton, "VEEGAN:
Reducing Mode Collapse in GANs using Implicit Variational Learning", 2017, arXiv:1705.07761, section 4, add 25 on a
square grid, here at the places and with the deviation of PacGAN (Lin, Khetan, Fanti, Oh 2018, arXiv:1712.04086,
section 4.1): -4, -2, .. 4 in both coordinates, 0.05.
"""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data.drawn import Drawn
from dl_zoo.data.memory import at_least_one
from dl_zoo.errors import UserError

LAYOUTS = ("ring", "grid")


class Ring(Drawn):
    """Inputs (N, 2) float32, targets (N,) int64: the mode each point was drawn from, all alike probable.

    `modes` (K, 2) float32 are the means, and `deviation` that of both coordinates; by these two, measures of what a
    generator makes up know such data. The classes are named after the places of their modes.

    Args:
        layout: ring, or grid.
        count: of modes, K; a square number of a grid.
        radius: of the ring; of a grid half its width.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        layout: str = "ring",
        count: int = 8,
        radius: float = 2.0,
        deviation: float = 0.02,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("count", count)
        if layout not in LAYOUTS:
            raise UserError(f"data.layout={layout}: must be one of {', '.join(LAYOUTS)}")
        if layout == "grid" and (count < 4 or isqrt(count) ** 2 != count):
            raise UserError(f"data.count={count}: a grid has a square number of modes, such as 25")
        if radius <= 0 or deviation <= 0:
            raise UserError(f"data.radius={radius}, data.deviation={deviation}: must be above 0")
        self.modes = (circle if layout == "ring" else grid)(count, radius)  # (K, 2)
        self.deviation = deviation
        self.classes = ["({:.2f}, {:.2f})".format(*place) for place in self.modes.tolist()]

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = random.randint(len(self.modes), size=count)
        return self.modes.numpy()[chosen] + self.deviation * random.standard_normal((count, 2)), chosen


def circle(count: int, radius: float) -> Tensor:
    """(count, 2): from (radius, 0) on, anticlockwise; `+ 0.0` where rounding would else be shown as -0.

    >>> circle(4, 2.0).tolist()
    [[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]]
    """
    angle = 2 * torch.pi * torch.arange(count, dtype=torch.float64) / count
    return (radius * torch.stack([angle.cos(), angle.sin()], dim=1)).float().mul(1e6).round().div(1e6) + 0.0


def grid(count: int, half: float) -> Tensor:
    """(count, 2): a square of points, row by row, from (-half, -half) to (half, half).

    >>> grid(4, 1.0).tolist()
    [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    places = torch.linspace(-half, half, isqrt(count))
    return torch.cartesian_prod(places, places)
