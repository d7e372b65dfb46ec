"""One label an item: a loss over the net's outputs, and accuracy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks import losses
from dl_zoo.tasks.task import Measured, Task

LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": losses.cross_entropy,
    **{name: partial(losses.pointwise, name) for name in losses.POINTWISE},
    "contrastive": losses.contrastive,
    "triplet": losses.triplet,
}
OF_EMBEDDINGS = ("contrastive", "triplet")
SCORES: dict[str, Callable[[Tensor], Tensor]] = {  # whose softmax is the belief; of cross entropy the outputs are
    "bce": F.logsigmoid,
    "mse": losses.log_of_probabilities,
    "huber": losses.log_of_probabilities,
    "contrastive": losses.log_of_probabilities,
    "triplet": losses.log_of_probabilities,
}


class Classification(Task):
    """Batches `(inputs, targets)`; targets are classes (B,), or class probabilities (B, K) when pictures were mixed.

    Metrics: `loss` (of cross entropy: nats an item), `acc` and `error` (fractions). Label smoothing is for training
    alone, so that `val/loss` means the same in every run. Where the outputs are an embedding (contrastive, triplet), an
    item counts as right when its nearest neighbour in the batch has its class: that depends on the batch size.

    Args:
        loss: a name of `LOSSES`; see `losses` for their equations.
        label_smoothing: share of probability spread evenly over all classes, for the losses of probabilities
            (Szegedy et al. 2016, arXiv:1512.00567, section 7).
        num_classes: of the data, where an embedding may have fewer or more dimensions.
        margin: distance beyond which two classes are far enough apart, for contrastive and triplet.
    """

    def __init__(
        self,
        *args: Any,
        num_classes: int,
        loss: str = "cross_entropy",
        label_smoothing: float = 0.0,
        margin: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if loss not in LOSSES:
            raise UserError(f"task.loss={loss}: there is no such loss; there are {', '.join(sorted(LOSSES))}")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"task.label_smoothing={label_smoothing}: must be at least 0 and below 1")
        if label_smoothing and loss in OF_EMBEDDINGS:
            raise UserError(f"task.label_smoothing={label_smoothing}: task.loss={loss} compares items; set it to 0")
        self.loss, self.embeds, self.scores = LOSSES[loss], loss in OF_EMBEDDINGS, SCORES.get(loss)
        self.num_classes, self.label_smoothing, self.margin = num_classes, label_smoothing, margin

    def measure(self, batch: tuple[Any, Tensor]) -> Measured:
        inputs, targets = batch
        outputs = self.net(*inputs) if isinstance(inputs, tuple | list) else self.net(inputs)  # (B, K)
        if self.embeds:
            loss = self.loss(outputs, targets, margin=self.margin)
            shown = losses.votes(outputs.detach(), targets, self.num_classes)  # a row of zeros where nobody votes
        else:
            loss = self.loss(outputs, targets, smoothing=self.label_smoothing if self.training else 0.0)
            shown = outputs.detach()
        classes = targets.argmax(1) if targets.is_floating_point() else targets
        right = shown.argmax(1) == classes
        correct = (right & shown.any(1) if self.embeds else right).sum()
        items = (targets[:, 0] if targets.is_floating_point() else targets).ne(losses.IGNORED).sum()
        scores = shown if self.scores is None else self.scores(shown)
        return Measured(loss, {"loss": loss.detach() * items, "acc": correct}, items, scores)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        return {**means, "error": 1 - means["acc"]} if means else {}
