"""A regression whose loss has two wells, one deeper than the other: can noise carry a weight out of the shallow one?

For nets whose answer is w^2 x_1 + w x_2, with one weight w (`model=tied_linear`), and targets y = x_1 + x_2 + e. Where
x_1, x_2 and e are uncorrelated, and the mean squares of x_1 and x_2 are 1 and `tilt`, the mean squared error is

    L(w) = (w^2 - 1)^2 + tilt (w - 1)^2 + noise^2

The first term alone has two wells, at -1 and 1, equally deep; the second lifts the one on the left. The slope is

    L'(w) = 2 (w - 1) (2 w^2 + 2 w + tilt) = 0    at w = 1 and, where tilt < 1/2, at (-1 +- sqrt(1 - 2 tilt)) / 2

of which the lower is the shallow well's bottom and the upper the barrier's top. In the deeper well the net is right
about every item (unless there is noise), so that the gradients of single items vanish there; in the shallow one they
only cancel. That is why a step on few items shakes a weight in the shallow well, and lets it rest in the deeper.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_zoo.data.landscape import Landscape
from dl_zoo.data.memory import at_least_one
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError


class DoubleWell(Landscape):
    """Inputs (N, K, 2) float32, targets (N, K) float32: `copies` regressions side by side, each with its own numbers.

    The loss of all is the mean of theirs, so a weight's own rate is `optimizer.lr` divided by K. After construction
    `wells` are the bottoms, shallow and deeper, and `barrier` is the top between them.

    Args:
        copies: K.
        tilt: above 0 and below 1/2, where the shallow well ends.
        noise: sqrt(mean e^2), to the digit.

    Raises:
        UserError: another tilt, or fewer items than four, which three columns of mean zero need to be uncorrelated.
    """

    fewest = 4

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        copies: int = 200,
        tilt: float = 0.35,
        noise: float = 0.0,
        train_items: int = 64,
        eval_items: int = 64,
        **settings: Any,
    ):
        super().__init__(dims, train_items=train_items, eval_items=eval_items, **settings)
        at_least_one("copies", copies)
        if not 0 < tilt < 0.5:
            raise UserError(f"data.tilt={tilt}: must be above 0, and below 0.5, where the shallow well ends")
        if noise < 0:
            raise UserError(f"data.noise={noise}: must be at least 0")
        for key, count in {"train_items": train_items, "eval_items": eval_items}.items():
            if count < self.fewest:
                raise UserError(f"data.{key}={count}: must be at least {self.fewest}")
        self.copies, self.tilt, self.noise = copies, tilt, noise
        shallow, self.barrier = (float((-1 + side * (1 - 2 * tilt) ** 0.5) / 2) for side in (-1, 1))
        self.wells = shallow, 1.0

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        columns = random.standard_normal((self.copies, count, 3))
        orthonormal, _ = np.linalg.qr(columns - columns.mean(1, keepdims=True))  # (K, N, 3), of mean 0
        scales = count**0.5 * np.array([1.0, self.tilt**0.5, self.noise])
        one, two, error = np.moveaxis(orthonormal * scales, (0, 2), (2, 0))  # x_1, x_2 and e, (N, K) each
        return np.stack([one, two], axis=2), one + two + error

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        copies = inputs.shape[1]
        return {"copies": copies, "features": 2 * copies, "num_classes": copies, "num_targets": copies}
