"""Rosenblatt's rule as a loss, with a count of the mistakes, since that is what its theory bounds.

Rosenblatt, "Principles of Neurodynamics", 1962, chapter 5: change the weights after a mistake, and only then. With s_k
the outputs and y the class, the perceptron criterion is

    loss = max_k s_k - s_y

Its gradient is 0 where the answer is right. Where it is wrong, a step of SGD at rate 1 on one item adds x to the
weights of y and takes x from those of the class that was answered. Where two classes share one unit, that is w +- x.
"""

from typing import Any

import torch
from torch import Tensor

from dl_zoo.tasks.task import Measured, Task


class Perceptron(Task):
    """Batches `(inputs, targets)`, targets are classes (B,); the loss is the mean over the batch.

    It is Rosenblatt's rule under `optimizer=sgd optimizer.lr=1 data.batch_size=1`; from zero weights the rate only
    scales them. Metrics: `loss`, `acc` and `error` (fractions), and `train/mistakes`, the wrong answers in training
    since the start, before each step: `mistakes` is brought up to date as an epoch ends.

    The answer is the first of the largest outputs. At a tie the loss is 0 and yet, where y is not that first, its
    gradient is that of a mistake: the class is picked once and not shared among the tied, as `amax` would.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.mistakes = 0

    def measure(self, batch: tuple[Any, Tensor]) -> Measured:
        inputs, targets = batch
        outputs = self.net(inputs)  # (B, K)
        answers = outputs.argmax(1)
        two = torch.stack([answers, targets], dim=1)  # (B, 2)
        answered, wanted = outputs.gather(1, two).unbind(1)
        loss = (answered - wanted).mean()
        items = len(targets)
        sums = {"loss": loss.detach() * items, "acc": (answers == targets).sum()}
        return Measured(loss, sums, items, outputs.detach())

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        return {**means, "error": 1 - means["acc"]} if means else {}

    def on_train_epoch_end(self) -> None:
        self.settle()
        self._log_window()
        self.mistakes += round(self._epoch.get("items", 0) - self._epoch.get("acc", 0))
        super().on_train_epoch_end()
        self.log("train/mistakes", float(self.mistakes), logger=False)
        self._write({"train/mistakes": float(self.mistakes)}, self.trainer.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["task"]["mistakes"] = self.mistakes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.mistakes = checkpoint.get("task", {}).get("mistakes", 0)
