"""Progress of a run: one bar over the whole training on a terminal, one plain line an epoch in the log."""

import logging
import math
import shutil
import sys
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

log = logging.getLogger("dl_zoo")
REFRESH = 0.25  # seconds: reading the newest numbers may wait for the device, so never once a step

BAR = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}, {elapsed} + {remaining} left{postfix}"
BAR_WITHOUT_END = "{desc} {n_fmt} batches, {elapsed}{postfix}"


class Progress(ProgressBar):
    """A bar over all epochs, so that the time left is the run's, validation included.

    An epoch's line goes to the logger `dl_zoo`, marked `on_bar` where a bar shows the same (see ConsoleHandler).
    Batches are counted by Lightning over all epochs and resumptions; a step costs one reading of the clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self.bar: tqdm | None = None
        self.due = math.inf  # the clock at which to redraw; never, without a bar

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:  # Lightning calls it on all processes but the first
        self.enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = self.epoch_started = time.monotonic()
        self.epoch, self.first = epoch_of(trainer), batches_done(trainer)
        self.open(self.epoch, batches_in_all(trainer), self.first, leave=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch = epoch_of(trainer)  # not called where a broken epoch goes on

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if time.monotonic() >= self.due:
            self.show(trainer, pl_module)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if time.monotonic() >= self.due:
            self.show(trainer, pl_module)  # nothing new but the time: the run is alive

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.enabled:
            return
        now, done = time.monotonic(), batches_done(trainer)
        left = (now - self.started) / max(1, done - self.first) * (batches_in_all(trainer) - done)
        times = duration(now - self.epoch_started)
        if 0 < left < math.inf:
            times += f", about {duration(math.ceil(left))} left"
        log.info("  ".join([self.epoch, *numbers(pl_module), times]), extra={"on_bar": self.bar is not None})
        self.epoch_started = now

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.show(trainer, pl_module)
        self.close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.open("test", sum(trainer.num_test_batches), 0, leave=False)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if self.bar is not None:
            self.bar.update()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        tqdm.write(sep.join(map(str, args)), **kwargs)

    def open(self, name: str, total: float, done: int, leave: bool) -> None:
        if self.enabled and sys.stderr.isatty():
            self.bar = tqdm(
                desc=name,
                total=None if math.isinf(total) else int(total),
                initial=done,
                leave=leave,
                file=sys.stderr,
                ncols=shutil.get_terminal_size().columns,
                nrows=24,  # tqdm hides the bar on a terminal that says it has none
                mininterval=REFRESH,
                miniters=1,
                smoothing=0,  # the mean rate: the newest would leave validation out
                bar_format=BAR if math.isfinite(total) else BAR_WITHOUT_END,
            )
            self.due = 0.0

    def show(self, trainer: Trainer, task: LightningModule) -> None:
        if self.bar is not None:
            self.bar.n, self.bar.ncols = batches_done(trainer), shutil.get_terminal_size().columns
            self.bar.set_description_str(self.epoch, refresh=False)
            self.bar.set_postfix_str("  ".join(numbers(task)), refresh=False)
            self.bar.refresh()
            self.due = time.monotonic() + REFRESH

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar, self.due = None, math.inf


class ConsoleHandler(logging.Handler):
    """Log lines on stderr, above the bar if there is one, without those that repeat it."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "on_bar", False):
            tqdm.write(self.format(record), file=sys.stderr)


def batches_done(trainer: Trainer) -> int:
    """Training batches since the run began. Not `global_step`: a GAN makes two of them a batch, accumulation fewer."""
    return trainer.fit_loop.total_batch_idx + 1


def batches_in_all(trainer: Trainer) -> float:
    epochs, steps = trainer.max_epochs, trainer.max_steps
    by_epochs = trainer.num_training_batches * epochs if epochs is not None and epochs >= 0 else math.inf
    return min(by_epochs, steps * trainer.accumulate_grad_batches if steps >= 0 else math.inf)


def epoch_of(trainer: Trainer) -> str:
    epochs = trainer.max_epochs
    return f"epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if epochs is not None and epochs >= 0 else "")


def numbers(task: LightningModule) -> list[str]:
    progress: Any = getattr(task, "progress", dict)
    return [
        f"{name} {value:.3f}" if 5e-3 <= abs(value) < 1e4 else f"{name} {value:.2g}"
        for name, value in progress().items()
    ]


def duration(seconds: float) -> str:
    """
    >>> [duration(s) for s in (0.0412, 12.34, 59.96, 5, 86, 7500)]
    ['0.0412 s', '12.3 s', '1 min 00 s', '5 s', '1 min 26 s', '2 h 05 min']
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
