"""A plane, and targets of which some lie far off it: what a squared error is misled by, and Huber's loss hardly.

Huber, "Robust Estimation of a Location Parameter", 1964, Annals of Mathematical Statistics 35(1): in his model of
gross errors a share of the observations comes from another law, of which nothing is known. Here

    y = w x + b + sigma e,    e ~ N(0, 1),    and y + offset for a share of the training items

so all gross errors are on one side and do not cancel. A least-squares plane is lifted by about share * offset; where
each item pulls with at most delta, as in Huber's loss, by about delta share / (1 - share), however far off they are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dl_zoo.data.drawn import SPLITS, Drawn, as_net
from dl_zoo.data.memory import Split, at_least_one
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError

PLANE = len(SPLITS) + 1  # the draw of w and b, which all splits share


class RegressionWithOutliers(Drawn):
    """Inputs (N, F) float32 ~ N(0, 1), targets (N, 1) float32.

    Validation and test items lie on the plane itself, without error and outliers: so the squared error there is that of
    the plane that was fitted. After construction `weight` (F,) is w, of ones and minus ones, and `intercept` is b.

    Args:
        features: F.
        noise: sigma.
        outliers: share of the training items that are off, rounded to whole items.
        offset: by how much.
        draw: of all numbers: another draw is another plane, and other items about it.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        features: int = 1,
        noise: float = 0.5,
        outliers: float = 0.1,
        offset: float = 10.0,
        draw: int = 0,
        train_items: int = 200,
        **settings: Any,
    ):
        super().__init__(dims, train_items=train_items, **settings)
        at_least_one("features", features)
        if noise < 0:
            raise UserError(f"data.noise={noise}: must be at least 0")
        if not 0 <= outliers < 1:
            raise UserError(f"data.outliers={outliers}: must be a share, at least 0 and below 1")
        if draw < 0:
            raise UserError(f"data.draw={draw}: must be at least 0")
        self.noise, self.outliers, self.offset, self.number = noise, outliers, offset, draw
        plane = self.random(PLANE)
        self.weight, self.intercept = plane.choice([-1.0, 1.0], features), plane.standard_normal()

    def random(self, part: int) -> np.random.RandomState:
        return np.random.RandomState([self.number, part])

    def read(self) -> dict[str, Split]:
        return {name: self.draw(part, self.sizes[name]) for part, name in enumerate(SPLITS)}

    def draw(self, draw: int, count: int) -> Split:
        """Split number `draw`; the first is for training."""
        random = self.random(draw)
        inputs = random.standard_normal((count, len(self.weight)))
        targets = inputs @ self.weight + self.intercept  # w x + b
        if draw == 0:
            targets += self.noise * random.standard_normal(count)  # + sigma e
            targets[random.permutation(count)[: round(self.outliers * count)]] += self.offset
        return as_net(torch.from_numpy(inputs)), as_net(torch.from_numpy(targets[:, None]))

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        return {"features": inputs.shape[1], "num_classes": 1, "num_targets": 1}
