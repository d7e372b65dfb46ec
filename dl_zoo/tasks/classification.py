"""One label an item: a loss over the net's outputs, and accuracy."""

import math
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
FEW = 10  # classes: up to here five guesses are no feat
SCORES: dict[str, Callable[[Tensor], Tensor]] = {  # whose softmax is the belief; of cross entropy the outputs are
    "bce": F.logsigmoid,
    "mse": losses.log_of_probabilities,
    "huber": losses.log_of_probabilities,
    "contrastive": losses.log_of_probabilities,
    "triplet": losses.log_of_probabilities,
}


class Classification(Task):
    """Batches `(inputs, targets)`; targets are classes (B,), or class probabilities (B, K) when pictures were mixed.

    Metrics: `loss` (of cross entropy: nats an item), `acc` and `error` (fractions), and in evaluation, where there are
    more than ten classes, `top5` (fraction whose class is among the five likeliest). Label smoothing is for training
    alone, so that `val/loss` means the same in every run. Where the outputs are an embedding (contrastive, triplet), an
    item counts as right when its nearest neighbour in the batch has its class: that depends on the batch size.

    A net with auxiliary classifiers answers `with_auxiliary(inputs) -> (outputs, (outputs, ...))`. In training their
    losses are added, and `train/loss` holds them; in evaluation they are not computed (Szegedy et al. 2015,
    arXiv:1409.4842, section 5).

    Inputs (V * B, ...) to targets (B,) are V views of each item, one after the other. The answer is then the mean of
    the V softmaxes, and the loss its negative log likelihood (Krizhevsky et al. 2012, section 4.1).

    Args:
        loss: a name of `LOSSES`; see `losses` for their equations.
        label_smoothing: share of probability spread evenly over all classes, for the losses of probabilities
            (Szegedy et al. 2016, arXiv:1512.00567, section 7).
        num_classes: of the data, where an embedding may have fewer or more dimensions.
        margin: distance beyond which two classes are far enough apart, for contrastive and triplet.
        auxiliary_weight: of each auxiliary classifier's loss; 0 leaves them out.
    """

    def __init__(
        self,
        *args: Any,
        num_classes: int,
        loss: str = "cross_entropy",
        label_smoothing: float = 0.0,
        margin: float = 1.0,
        auxiliary_weight: float = 0.3,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if loss not in LOSSES:
            raise UserError(f"task.loss={loss}: there is no such loss; there are {', '.join(sorted(LOSSES))}")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"task.label_smoothing={label_smoothing}: must be at least 0 and below 1")
        if label_smoothing and loss in OF_EMBEDDINGS:
            raise UserError(f"task.label_smoothing={label_smoothing}: task.loss={loss} compares items; set it to 0")
        if not 0 <= auxiliary_weight < math.inf:
            raise UserError(f"task.auxiliary_weight={auxiliary_weight}: must be at least 0")
        self.loss, self.embeds, self.scores = LOSSES[loss], loss in OF_EMBEDDINGS, SCORES.get(loss)
        self.num_classes, self.label_smoothing, self.margin = num_classes, label_smoothing, margin
        self.auxiliary_weight = auxiliary_weight
        self.has_auxiliary = auxiliary_weight > 0 and hasattr(self.net, "with_auxiliary")

    def measure(self, batch: tuple[Any, Tensor]) -> Measured:
        inputs, targets = batch
        outputs, auxiliary = self.answers(*inputs) if isinstance(inputs, tuple | list) else self.answers(inputs)
        if len(outputs) != len(targets):
            return self.measure_views(outputs, targets)
        loss = self.loss_of(outputs, targets)
        for each in auxiliary:
            loss = loss + self.auxiliary_weight * self.loss_of(each, targets)
        shown = outputs.detach()
        if self.embeds:
            shown = losses.votes(shown, targets, self.num_classes)  # a row of zeros where nobody votes
        return self.measured(loss, shown, targets, shown if self.scores is None else self.scores(shown))

    def answers(self, *inputs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The net's outputs (B, K), and those of its auxiliary classifiers in training."""
        net: Any = self.net
        return net.with_auxiliary(*inputs) if self.has_auxiliary and self.training else (net(*inputs), ())

    def loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.embeds:
            return self.loss(outputs, targets, margin=self.margin)
        return self.loss(outputs, targets, smoothing=self.label_smoothing if self.training else 0.0)

    def measure_views(self, outputs: Tensor, targets: Tensor) -> Measured:
        """Of V views an item, outputs (B * V, K): `Measured.output` is the logarithm of their mean softmax, (B, K)."""
        if self.embeds:
            raise UserError("data.views: this task.loss compares items and has no mean over views; set data.views=1")
        scores = outputs if self.scores is None else self.scores(outputs)
        each = scores.float().log_softmax(1).unflatten(0, (len(targets), -1))  # (B, V, K)
        mean = each.logsumexp(1) - math.log(each.shape[1])  # (B, K)
        shown = mean.detach()
        return self.measured(losses.cross_entropy(mean, targets), shown, targets, shown)

    def measured(self, loss: Tensor, shown: Tensor, targets: Tensor, scores: Tensor) -> Measured:
        """`shown` (B, K): the largest is the answer."""
        classes = targets.argmax(1) if targets.is_floating_point() else targets
        right = shown.argmax(1) == classes
        items = (targets[:, 0] if targets.is_floating_point() else targets).ne(losses.IGNORED).sum()
        sums = {"loss": loss.detach() * items, "acc": (right & shown.any(1) if self.embeds else right).sum()}
        if self.num_classes > FEW and not self.training and not self.embeds:
            sums["top5"] = (shown.topk(5).indices == classes[:, None]).sum()
        return Measured(loss, sums, items, scores)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        return {**means, "error": 1 - means["acc"]} if means else {}
