"""Lightning's training epoch with its most ordinary batch written out, for nets whose step is short.

For each batch Lightning makes some forty calls to hooks, most of which nobody has overridden, each with a profiler's
context and a log message: 0.5 ms and more on a small machine, as much as a small net's whole step. This loop calls the
hooks that somebody does override, in Lightning's order, and keeps its counters, so that its checkpoints are the same.

It steps aside for everything else: the first batch after a resume, several processes, other precisions than float32,
gradient accumulation or clipping, a profiler, manual optimization. `benchmarks/loop_overhead.py` measures the rest.
"""

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins import Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor

Hook = Callable[..., Any]
BY_CALLBACKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
MUST_BE_LIGHTNINGS = (  # a module that has its own of these goes the long way
    "on_train_batch_start",
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    *BY_CALLBACKS[1:-1],
)


class EpochLoop(_TrainingEpochLoop):
    """Put in place by `install`; the same as its parent but for the cost of an ordinary batch."""

    _hooks: dict[str, list[Hook]] | None = None  # None: not decided, or not ordinary

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        ordinary = is_ordinary(self.trainer) and not isinstance(data_fetcher, _DataLoaderIterDataFetcher)
        self._hooks = {name: overridden(self.trainer, name) for name in BY_CALLBACKS} if ordinary else None

    def advance(self, data_fetcher: _DataFetcher) -> None:
        if self._hooks is None or self.restarting:
            return super().advance(data_fetcher)
        trainer, module, hooks = self.trainer, self.trainer.lightning_module, self._hooks
        self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        index = self.batch_idx + 1
        self.batch_progress.is_last_batch = data_fetcher.done
        if trainer.strategy.root_device.type != "cpu":
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        self.batch_progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        for hook in hooks["on_train_batch_start"]:
            hook(trainer, module, batch, index)
        self.batch_progress.increment_started()
        loss = self._step(module, batch, index)
        self.batch_progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        for hook in hooks["on_train_batch_end"]:
            hook(trainer, module, {"loss": loss}, batch, index)
        module.on_train_batch_end({"loss": loss}, batch, index)
        trainer._logger_connector.on_batch_end()
        self.batch_progress.increment_completed()
        trainer._logger_connector.update_train_step_metrics()

    def _step(self, module: LightningModule, batch: Any, index: int) -> Tensor:
        """training_step, zero_grad, backward: as a closure, which L-BFGS calls several times; then the update."""
        trainer, hooks, progress = self.trainer, self._hooks, self.automatic_optimization.optim_progress.optimizer
        optimizer = trainer.optimizers[0]
        assert hooks is not None

        def closure() -> Tensor:
            module._current_fx_name = "training_step"  # where `self.log` is allowed
            loss: Any = module.training_step(batch, index)
            module._current_fx_name = None
            progress.zero_grad.increment_ready()
            for hook in hooks["on_before_zero_grad"]:
                hook(trainer, module, optimizer)
            progress.zero_grad.increment_started()
            optimizer.zero_grad()
            progress.zero_grad.increment_completed()
            for hook in hooks["on_before_backward"]:
                hook(trainer, module, loss)
            loss.backward()
            for hook in hooks["on_after_backward"]:
                hook(trainer, module)
            for hook in hooks["on_before_optimizer_step"]:
                hook(trainer, module, optimizer)
            return loss.detach()

        progress.step.increment_ready()
        loss = optimizer.step(closure)  # type: ignore[arg-type]
        progress.step.increment_completed()
        return loss  # type: ignore[return-value]


def install(trainer: Trainer) -> Trainer:
    """Give a trainer this loop in place of its own."""
    own = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = EpochLoop(trainer, min_steps=own.min_steps, max_steps=own.max_steps)
    return trainer


def is_ordinary(trainer: Trainer) -> bool:
    module = trainer.lightning_module
    return (
        module.automatic_optimization
        and len(trainer.optimizers) == 1
        and type(trainer.strategy) is SingleDeviceStrategy
        and type(trainer.precision_plugin) is Precision
        and isinstance(trainer.profiler, PassThroughProfiler)  # type: ignore[attr-defined]
        and trainer.accumulate_grad_batches == 1
        and trainer.gradient_clip_val is None
        and not torch.is_anomaly_enabled()
        and not any(getattr(type(module), name) is not getattr(LightningModule, name) for name in MUST_BE_LIGHTNINGS)
    )


def overridden(trainer: Trainer, name: str) -> list[Hook]:
    """The callbacks' hooks of this name that are not the empty one they inherit."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [getattr(c, name) for c in callbacks if getattr(type(c), name) is not getattr(Callback, name)]
