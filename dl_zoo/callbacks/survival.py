"""No run is ever lost: checkpoints that a kill cannot damage, and a continuation that equals never having stopped.

`last.ckpt` is written at every epoch's end, every `every_seconds` at a batch's end, and when the run is asked to stop;
the one before it stays as `previous.ckpt`, and `best.ckpt` is the last one at which the task's monitor was best. With
the weights go the optimizer, the schedule, the loops, the loader's place, the sums of the broken epoch (the task's own)
and the random states kept here.
"""

import random
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from dl_zoo import checkpoints
from dl_zoo.errors import UserError


class Interrupted(Exception):
    """The run was asked to stop, and has saved. `signal` says by what."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


class AtomicIO(TorchCheckpointIO):
    """Lightning writes through this: a checkpoint file is whole or not there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        checkpoints.write_atomically(checkpoint, path)


class Survival(Checkpoint):
    """Writes the checkpoints, keeps the random states, and turns Ctrl-C and SIGTERM into a clean stop.

    A subclass of Lightning's `Checkpoint`, so that it runs after all others at an epoch's end.

    Args:
        folder: where `last.ckpt`, `previous.ckpt` and `best.ckpt` go.
        header: the checkpoint's `dl_zoo` entry.
        monitor, mode: the metric of `best.ckpt`, and "min" or "max".
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], monitor: str, mode: str, every_seconds: float = 60.0):
        self.folder, self.header = folder, dict(header)
        self.monitor, self.sign = monitor, 1 if mode == "min" else -1
        self.every_seconds = every_seconds
        self.best: float | None = None  # the best value so far
        self.is_best = False  # is the newest checkpoint the best one?
        self._asked: int | None = None  # the signal that asks to stop
        self._saved_at = time.monotonic()
        self._random: dict[str, Any] | None = None

    # -- when to save

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not at on_fit_start: Lightning registers a handler after it, which ends the run before it is saved.
        if threading.current_thread() is threading.main_thread():  # Lightning puts the old handlers back at its end
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask)
        self._saved_at = time.monotonic()
        if self.is_best and trainer.is_global_zero:  # killed after the checkpoint, before it had its second name
            checkpoints.alias(self.folder / "last.ckpt", "best.ckpt")

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: now
        self._asked = number

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        due = self._asked is not None or time.monotonic() - self._saved_at > self.every_seconds
        if trainer.world_size > 1:
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due and not trainer.is_last_batch:  # the epoch's end saves in a moment
            self.is_best = False
            self._save(trainer, pl_module)
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        better = value is None or self.best is None or self.sign * float(value) < self.sign * self.best
        if value is None and any(name.startswith("val/") for name in trainer.callback_metrics):
            known = ", ".join(sorted(name for name in trainer.callback_metrics if name.startswith("val/")))
            raise UserError(f"task.monitor={self.monitor}: there is no such metric; there are {known}")
        if better and value is not None:
            self.best = float(value)
        self.is_best = better
        self._save(trainer, pl_module)
        if better and trainer.is_global_zero:
            checkpoints.alias(self.folder / "last.ckpt", "best.ckpt")
        self._stop_if_asked(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.max_epochs == 0 and not (self.folder / "last.ckpt").exists():  # the net as it was built
            self._save(trainer, pl_module)
            if trainer.is_global_zero:
                checkpoints.alias(self.folder / "last.ckpt", "best.ckpt")

    def _save(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.settle()
        pl_module.check_finite()
        for logger in trainer.loggers:
            logger.save()  # what was logged before a checkpoint is on the disk before it
        last = self.folder / "last.ckpt"
        if trainer.is_global_zero and last.exists():
            checkpoints.alias(last, "previous.ckpt")
        trainer.save_checkpoint(last, weights_only=False)
        self._saved_at = time.monotonic()

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        number = self._asked or 0
        if trainer.world_size > 1:
            number = int(trainer.strategy.reduce(torch.tensor(float(number)), reduce_op="max"))
        if number:
            raise Interrupted(number)

    # -- what goes in beside what Lightning keeps

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["dl_zoo"] = self.header
        checkpoint["state_dict"] = {k.replace("_orig_mod.", ""): v for k, v in checkpoint["state_dict"].items()}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "is_best": self.is_best, "random": random_states()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.is_best, self._random = state["best"], state["is_best"], state["random"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._random is not None:  # as late as can be, so that nothing draws in between
            set_random_states(self._random)
            self._random = None


def random_states() -> dict[str, Any]:
    """Python's, NumPy's and torch's generators as plain data."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
