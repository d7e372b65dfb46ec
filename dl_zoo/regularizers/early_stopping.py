"""Stop where validation has stopped improving: the cheapest regularizer (Prechelt 1998, "Early Stopping - but when?").

Lightning's, which counts the epochs without improvement; its count is in the checkpoints. One thing is added: a run
that was killed between its last checkpoint and its end must not train another epoch when it is resumed.
"""

import logging
from typing import Any

from pytorch_lightning import callbacks

from dl_zoo.errors import UserError

log = logging.getLogger("dl_zoo")


class EarlyStopping(callbacks.EarlyStopping):
    """`patience` epochs without an improvement of `monitor` by `min_delta` end the training; `best` is tested."""

    def __init__(self, monitor: str, mode: str, patience: int, min_delta: float = 0.0):
        if patience < 1:
            raise UserError(f"regularizer.early_stopping.patience={patience}: must be at least 1")
        super().__init__(monitor, min_delta, patience, mode=mode)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.wait_count >= self.patience:
            log.info("stopped early: %s has not improved for %d epochs", self.monitor, self.wait_count)

    def _validate_condition_metric(self, logs: dict[str, Any]) -> bool:
        if self.monitor not in logs:
            known = ", ".join(sorted(name for name in logs if name.startswith("val/"))) or "none"
            raise UserError(f"regularizer.early_stopping.monitor={self.monitor}: no such metric; there are {known}")
        return True
