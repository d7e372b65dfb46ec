"""One label an item: cross entropy and accuracy."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dl_zoo.tasks.task import Measured, Task


class Classification(Task):
    """Batches `(inputs, targets)`; targets are classes (B,), or class probabilities (B, K) when pictures were mixed.

    Metrics: `loss` (nats an item), `acc` and `error` (fractions).
    """

    def measure(self, batch: tuple[Any, Tensor]) -> Measured:
        inputs, targets = batch
        logits = self.net(*inputs) if isinstance(inputs, tuple | list) else self.net(inputs)  # (B, K)
        loss = F.cross_entropy(logits, targets)
        output = logits.detach()
        classes = targets.argmax(1) if targets.is_floating_point() else targets
        correct = (output.argmax(1) == classes).sum()
        return Measured(loss, {"loss": loss.detach() * len(output), "acc": correct}, len(output), output)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        return {**means, "error": 1 - means["acc"]} if means else {}
