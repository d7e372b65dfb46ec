"""Pictures said again: how much of them goes through a narrow code.

Hinton, Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006: the cross entropy
of pixels, - sum of p log p^ + (1 - p) log(1 - p^), over grey values in 0..1.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks import generating
from dl_zoo.tasks.task import Measured, Task

LOSSES = ("cross_entropy", "mse")


class Autoencoding(Task):
    """Batches `(pictures (B, C, H, W), targets)`; the targets are not looked at. The net gives logits of their shape.

    Metrics: `loss`, a picture's cross entropy in nats or its squared error, and `mse`, the squared error a pixel.

    Args:
        mean, std: by which pictures are normalised, one a channel; None: they have no scale of pixels.
        loss: "cross_entropy", or "mse", and then the net's outputs are pixels themselves.
    """

    def __init__(
        self,
        *arguments: Any,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        loss: str = "cross_entropy",
        **settings: Any,
    ):
        super().__init__(*arguments, **settings)
        if loss not in LOSSES:
            raise UserError(f"task.loss={loss}: must be {' or '.join(LOSSES)}")
        if mean is None and loss == "cross_entropy":
            raise UserError("task.loss=cross_entropy: these data have no data.mean and data.std; task.loss=mse")
        self.scale, self.loss = (mean, std), loss

    def measure(self, batch: tuple[Tensor, Any]) -> Measured:
        x = self.shown(batch[0])
        outputs, items = self.net(x), len(x)
        if self.loss == "mse":
            loss = F.mse_loss(outputs, x, reduction="sum") / items
        else:
            loss = F.binary_cross_entropy_with_logits(outputs, x, reduction="sum") / items
        shown = self.pixels_of(outputs.detach())
        sums = {"loss": loss.detach() * items, "mse": (shown - x).square().mean() * items}
        return Measured(loss, sums, items, shown)

    def shown(self, inputs: Tensor) -> Tensor:
        """What is said again: pixels in 0..1."""
        return generating.pixels(inputs, *self.scale)

    def pixels_of(self, outputs: Tensor) -> Tensor:
        return outputs if self.loss == "mse" else outputs.sigmoid()

    @torch.no_grad()
    def reconstruct(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        """Pictures (B, C, H, W) in 0..1, said again; there are no classes to tell."""
        with generating.still(self.net):
            return self.pixels_of(self.net(pictures))
