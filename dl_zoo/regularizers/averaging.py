"""Averages of the weights along the path of training: smoother than its end, and often better.

Lightning's `WeightAveraging` keeps the average (torch's `AveragedModel`), puts it in place for validation and in the
checkpoint's `state_dict`, and keeps the trained weights beside it for a resume. Changed here: until the first average
there is nothing to put in place, where Lightning would validate and save the initial weights; and the average lives on
the device that trains.

- EMA: w' <- d w' + (1 - d) w after each step (Polyak and Juditsky 1992 average all steps alike).
- SWA: the mean of the weights after each epoch from a share of the training on (Izmailov et al. 2018, arXiv:1803.05407,
  algorithm 1, with one model an epoch; the schedule is your choice, they use a constant or cyclical rate). Running
  statistics of batch norms are averaged too, where the paper computes them anew. `best` may still be a checkpoint from
  before the mean began: it is the one that validated best.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from dl_zoo.errors import UserError

log = logging.getLogger("dl_zoo")


class Averaging(WeightAveraging):
    """`mean`: torch's function for lists of averaged tensors, new ones, and how many have been averaged."""

    def __init__(self, mean: Callable[..., None]):
        def average(averaged: Any, new: Any, count: Any) -> None:
            if averaged[0].is_floating_point():
                mean(averaged, new, count)
            else:  # a mean of whole numbers (indices, counts of batches) would be cut off to others
                torch._foreach_copy_(averaged, new)

        super().__init__(multi_avg_fn=average)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    @property
    def begun(self) -> bool:
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self.begun:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.begun:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.begun:
            super().on_train_end(trainer, pl_module)
        else:
            log.info("%s: training ended before the average began; the weights are the last ones", type(self).__name__)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self.begun:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class EMA(Averaging):
    """After t steps: w'_t = d^(t-1) w_1 + (1 - d) sum_(i=2..t) d^(t-i) w_i; the first step is copied."""

    def __init__(self, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise UserError(f"regularizer.ema.decay={decay}: must be at least 0 and below 1")
        super().__init__(get_ema_multi_avg_fn(decay))


class SWA(Averaging):
    """`start`: the share of the run's epochs after which the mean begins."""

    def __init__(self, start: float = 0.75):
        if not 0 <= start < 1:
            raise UserError(f"regularizer.swa.start={start}: must be at least 0 and below 1")
        super().__init__(get_swa_multi_avg_fn())
        self.start, self.first = start, 0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and (trainer.max_epochs is None or trainer.max_epochs < 0):
            raise UserError("regularizer=swa needs the number of epochs; set trainer.max_epochs")
        self.first = int(self.start * (trainer.max_epochs or 0))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """At the epoch's last batch, so that what is validated after it is what is saved after it."""
        if trainer.is_last_batch and trainer.current_epoch >= self.first:
            assert self._average_model is not None
            self._average_model.update_parameters(pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Lightning's place for it, after validation."""
