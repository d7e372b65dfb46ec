"""A linear regression whose loss is a bowl of stated curvatures: what optimizers are compared on in textbooks.

Boyd, Vandenberghe, "Convex Optimization", 2004, section 9.3.2; Goh, "Why Momentum Really Works", 2017, Distill,
doi:10.23915/distill.00006. With X (N, F) the inputs of a split, y = X w* + e its targets, and e orthogonal to every
column of X, the mean squared error of the answers X w is

    L(w) = (w - w*)^T X^T X / N (w - w*) + |e|^2 / N,        dL/dw = H (w - w*),        H = 2 X^T X / N

X is made so that H has exactly the wanted eigenvalues: X = sqrt(N) Q diag(h_i / 2)^(1/2) R^T, with orthonormal columns
in Q (N, F) and R (F, F), so H = R diag(h_i) R^T. Along a column of R the bowl is a parabola of curvature h_i, and
gradient descent with the rate eta multiplies the distance from the minimum by 1 - eta h_i at each step. It converges
where eta < 2 / max h, and is fastest at eta = 2 / (max h + min h).

The columns of X have mean zero, so a bias that the net may have is a direction of its own, of curvature 2.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_zoo.data.drawn import SPLITS
from dl_zoo.data.landscape import Landscape
from dl_zoo.data.memory import at_least_one
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError

SHAPE = len(SPLITS) + 1  # the draw of rotation and minimum, which all splits share


class QuadraticBowl(Landscape):
    """Inputs (N, F) float32, targets (N, 1) float32: an affine net without hidden layers walks on the bowl.

    After construction `minimum` (F,) is w*, at a distance of 1 from zero along each column of `axes` (F, F), that is R,
    and `curvatures` (F,) are h. All splits lie on the same bowl.

    Args:
        features: F.
        steepest, flattest: the largest and the smallest h_i; those between are spaced geometrically. Their ratio is
            the condition number of H. One feature has the steepest alone.
        rotated: false: R = I, so that the axes of the bowl are the weights themselves.
        noise: sqrt(|e|^2 / N), to the digit: it lifts the bowl by its square and moves nothing.

    Raises:
        UserError: curvatures that are not above 0 or in the wrong order, or fewer items than columns need to be
            orthogonal (F + 2).
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        features: int = 20,
        steepest: float = 1.0,
        flattest: float = 0.01,
        rotated: bool = True,
        noise: float = 0.0,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("features", features)
        if not 0 < flattest <= steepest:
            raise UserError(f"data.flattest={flattest}, data.steepest={steepest}: must be above 0, and in this order")
        if noise < 0:
            raise UserError(f"data.noise={noise}: must be at least 0")
        self.fewest = features + 2
        for key, split in {"train_items": "train", "eval_items": "val"}.items():
            if self.sizes[split] < self.fewest:
                least = f"{self.fewest}, two more than data.features={features}"
                raise UserError(f"data.{key}={self.sizes[split]}: must be at least {least}")
        self.noise = noise
        random = np.random.RandomState(SHAPE)
        turn, _ = np.linalg.qr(random.standard_normal((features, features)))
        self.axes = turn if rotated else np.eye(features)  # R (F, F)
        self.minimum = self.axes @ random.choice([-1.0, 1.0], features)  # w* (F,)
        self.curvatures = np.geomspace(steepest, flattest, features)  # h (F,)

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        features = len(self.minimum)
        columns = random.standard_normal((count, features + 1))
        orthonormal, _ = np.linalg.qr(columns - columns.mean(0))  # (N, F + 1), each of mean 0
        directions, rest = orthonormal[:, :features], orthonormal[:, features:]
        inputs = count**0.5 * (directions * (self.curvatures / 2) ** 0.5) @ self.axes.T  # X = sqrt(N) Q diag R^T
        errors = count**0.5 * self.noise * rest  # e (N, 1)
        return inputs, (inputs @ self.minimum)[:, None] + errors  # y = X w* + e

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        return {"features": inputs.shape[1], "num_classes": 1, "num_targets": 1}
