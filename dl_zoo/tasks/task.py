"""What every kind of problem shares: optimizer, schedule, penalties, and measures that cost next to nothing.

A concrete task says in `measure` what the loss of a batch is and which sums to keep. Calling Lightning's `self.log` or
a metric object every step costs more than a small net's whole step, so the sums stay on the device as they fall out of
`measure` and are read together: every `log_every_n_steps` steps, at the end of an epoch, and before a checkpoint.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dl_zoo.errors import UserError

Row = tuple[int, int, dict[str, Tensor], int | Tensor]  # step, batch, sums, items


@dataclass(slots=True)
class Measured:
    """One batch: the loss to differentiate, sums over its items by name, and what to show of the net's output."""

    loss: Tensor  # scalar
    sums: dict[str, Tensor]  # name -> scalar; "loss" among them
    items: int | Tensor  # how many items the sums run over
    output: Tensor  # (B, ...), detached: scores whose softmax is what the net believes


class Task(pl.LightningModule):
    """A net with its loss and optimizer: one LightningModule, ready for any `Trainer`.

    Args:
        net: the architecture; it never learns of its loss.
        optimizer: from parameters to a torch optimizer.
        scheduler: from an optimizer and `total_steps` to a torch scheduler, stepped every batch; or None.
        penalties: name -> function of the net, added to the loss in training and logged as `train/<name>`.
        monitor: the metric that tells which checkpoint is best, and `mode` whether "min" or "max" is.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        penalties: Mapping[str, Callable[[nn.Module], Tensor]] | None = None,
        monitor: str = "val/loss",
        mode: str = "min",
    ):
        super().__init__()
        self.net = net
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.penalties = dict(penalties or {})
        if mode not in ("min", "max"):
            raise UserError(f"task.mode={mode}: must be min or max")
        self.monitor, self.mode = monitor, mode
        self._pending: Row | None = None
        self._window: list[Row] = []  # since the last log
        self._epoch: dict[str, float] = {}  # sums of this epoch up to the window
        self._evaluated: list[Row] = []
        self._validated = False  # in this epoch
        self._newest_train: dict[str, float] = {}  # means, for the progress bar
        self._newest_evaluation: dict[str, float] = {}

    # -- what a concrete task says

    def measure(self, batch: Any) -> Measured:
        raise NotImplementedError(f"{type(self).__name__} does not say how to measure a batch")

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        """Metrics that follow from the means, such as error = 1 - acc. The default adds none."""
        return means

    # -- Lightning's hooks

    def forward(self, *inputs: Any) -> Any:
        return self.net(*inputs)

    def configure_optimizers(self) -> Any:
        if self.trainer.max_epochs == 0:
            return None
        optimizer = self.optimizer_over([p for p in self.net.parameters() if p.requires_grad])
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.schedule_of(optimizer, self._total_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def try_learning(self) -> None:
        """Raise UserError now where optimizer or schedule cannot be built, before a run has left anything behind."""
        optimizer = self.optimizer_over([p for p in self.net.parameters() if p.requires_grad])
        self.schedule_of(optimizer, total_steps=1000)

    def optimizer_over(self, parameters: list[nn.Parameter]) -> Optimizer:
        """UserError where torch does not accept its numbers, and where there is nothing to learn."""
        if not parameters:
            raise UserError("this net has no parameter that learns; trainer.max_epochs=0 measures it as it is")
        of_net = getattr(self.make_optimizer, "of", None)  # its rates depend on where in the net a parameter is
        try:
            return (of_net(self.net) if of_net else self.make_optimizer)(parameters)
        except IndexError as error:
            raise UserError("optimizer: one of its lists is too short") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"optimizer: {error}") from error

    def schedule_of(self, optimizer: Optimizer, total_steps: int) -> LRScheduler | None:
        try:
            return self.make_scheduler and self.make_scheduler(optimizer, total_steps=total_steps)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise UserError(f"scheduler: {error}") from error

    def _total_steps(self) -> int:
        """Optimizer steps of the whole run.

        Lightning's `estimated_stepping_batches` opens the training loader before a resumed run has put back its place
        in the epoch, which would be lost; so a data module is asked for another loader.
        """
        trainer = self.trainer
        if trainer.datamodule is None:  # type: ignore[attr-defined]
            return int(trainer.estimated_stepping_batches)
        batches = len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs >= 0 else math.inf
        by_epochs = math.ceil(batches / trainer.accumulate_grad_batches) * epochs
        steps = min(by_epochs, trainer.max_steps if trainer.max_steps >= 0 else math.inf)
        if not math.isfinite(steps):
            raise UserError("scheduler: it needs the length of the run; set trainer.max_epochs or trainer.max_steps")
        return int(steps)

    def objective(self, batch: Any) -> Tensor:
        """What is differentiated: the loss and the penalties; without a trace in the measures."""
        return self.measure(batch).loss + sum(penalty(self.net) for penalty in self.penalties.values())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        measured = self.measure(batch)
        loss, sums = measured.loss, measured.sums
        for name, penalty in self.penalties.items():
            value = penalty(self.net)
            loss = loss + value
            sums = {**sums, name: value.detach() * measured.items}
        if self._pending is None:  # L-BFGS asks several times a step: what counts is the loss before it, as elsewhere
            self._pending = (self.trainer.global_step + 1, batch_idx, sums, measured.items)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.settle()

    def on_train_epoch_end(self) -> None:
        self.settle()
        self._log_window()
        means = self._means(self._epoch)
        self._epoch = {}
        self.log_dict({f"train/{name}": value for name, value in means.items()}, logger=False)
        self._tell_schedule()

    def _tell_schedule(self) -> None:
        """A schedule that watches a metric hears of it here: Lightning's turn comes after the epoch's checkpoint.

        Not after an epoch without validation, where the metrics are those of an earlier one.
        """
        if self.trainer.enable_validation and not self._validated:
            return
        self._validated = False
        for schedule in self.trainer.lr_scheduler_configs:
            observe = getattr(schedule.scheduler, "observe", None)
            if observe is not None:
                observe(self.trainer.callback_metrics)

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        return self._evaluate(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        return self._evaluate(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")
        self._validated = not self.trainer.sanity_checking

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        rows = [(step, batch, {k: float(v) for k, v in sums.items()}, int(n)) for step, batch, sums, n in self._window]
        checkpoint["task"] = {"window": rows, "epoch": dict(self._epoch)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get("task", {})
        self._window = [
            (step, index, {k: torch.tensor(v, device=self.device) for k, v in sums.items()}, items)
            for step, index, sums, items in state.get("window", [])
        ]
        self._epoch = dict(state.get("epoch", {}))

    # -- sums

    def settle(self) -> None:
        """Count the step that just ended; log when a window is full. Twice is the same as once."""
        if self._pending is None:
            return
        self._window.append(self._pending)
        self._pending = None
        if len(self._window) >= self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self._log_window()

    def check_finite(self) -> None:
        """Raise FloatingPointError when a loss of the open window or a weight is NaN or infinite: do not save that."""
        _, wrong = self._totals(self._window)
        if not wrong and not all(bool(parameter.isfinite().all()) for parameter in self.net.parameters()):
            wrong = f"a weight is not finite after step {self.trainer.global_step}"
        self._stop_together(wrong)

    def progress(self) -> dict[str, float]:
        """The newest means, for a progress bar: `loss`, `acc`, ... of training, then the last validation's."""
        train = _per_item(self._totals(self._window)[0]) if self._window else {}
        return {**self._newest_train, **train, **self._newest_evaluation}

    def _log_window(self) -> None:
        if not self._window:
            return
        sums = self._reduce(self._read(self._window))
        step = self._window[-1][0]
        self._window = []
        for name, value in sums.items():
            self._epoch[name] = self._epoch.get(name, 0.0) + value
        self._newest_train = _per_item(sums)
        rates = {"train/lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        self._write({f"train/{name}": value for name, value in self._means(sums).items()} | rates, step)

    def _evaluate(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        measured = self.measure(batch)
        self._evaluated.append((self.trainer.global_step, batch_idx, measured.sums, measured.items))
        return {"output": measured.output, "targets": batch[1]}

    def _log_evaluation(self, split: str) -> None:
        rows, self._evaluated = self._evaluated, []
        sums = self._reduce(self._read(rows, f"{split} "))
        metrics = {f"{split}/{name}": value for name, value in self._means(sums).items()}
        self._newest_evaluation = {f"{split}/{name}": value for name, value in _per_item(sums).items()}
        self.log_dict(metrics, logger=False)
        if not self.trainer.sanity_checking:
            self._write(metrics, self.trainer.global_step)

    def _read(self, rows: list[Row], where: str = "") -> dict[str, float]:
        """Sums over rows by name and "items". Raises FloatingPointError, on all processes or on none."""
        sums, wrong = self._totals(rows, where)
        self._stop_together(wrong)
        return sums

    def _stop_together(self, wrong: str) -> None:
        """Raise when something is wrong here, or on another process, which would else wait for this one."""
        if self.trainer.world_size > 1:
            fine = self.trainer.strategy.reduce_boolean_decision(not wrong, all=True)
            wrong = wrong or ("" if fine else "another process met a number that is not finite")
        if wrong:
            raise FloatingPointError(wrong)

    def _totals(self, rows: list[Row], where: str = "") -> tuple[dict[str, float], str]:
        """Sums over rows, in one transfer from the device, and what is wrong with them."""
        if not rows:
            return {}, ""
        names = [*rows[0][2], "items"]
        device = rows[0][2]["loss"].device
        every = [{**sums, "items": torch.as_tensor(items, device=device)} for _, _, sums, items in rows]
        table = torch.stack([sums[name] for sums in every for name in names]).view(-1, len(names)).double().cpu()
        for (step, index, _, _), finite in zip(rows, table.isfinite().all(dim=1).tolist(), strict=True):
            if not finite:
                place = f"step {step} (epoch {self.current_epoch + 1}, batch {index + 1})"
                return {}, f"the {where}loss is not finite at {place}"
        return dict(zip(names, table.sum(dim=0).tolist(), strict=True)), ""

    def _reduce(self, sums: dict[str, float]) -> dict[str, float]:
        """Over all ranks, when there are several."""
        if self.trainer.world_size == 1:
            return sums
        total = torch.tensor(list(sums.values()), dtype=torch.float64, device=self.device)
        return dict(zip(sums, self.trainer.strategy.reduce(total, reduce_op="sum").tolist(), strict=True))

    def _means(self, sums: Mapping[str, float]) -> dict[str, float]:
        return self.derive(_per_item(sums))

    def _write(self, metrics: dict[str, float], step: int) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, step=step)


def _per_item(sums: Mapping[str, float]) -> dict[str, float]:
    return {name: value / max(1.0, sums["items"]) for name, value in sums.items() if name != "items"}
