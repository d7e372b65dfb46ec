"""Weights & Biases: the curves on its server, or in the run folder's `wandb/` until `wandb sync` uploads them.

The package is optional, and imported only when the logger is built.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dl_zoo.callbacks.tensorboard import flatten
from dl_zoo.errors import UserError
from dl_zoo.folder import write_text

MODES = ("online", "offline", "disabled")


class WandB(WandbLogger):
    """One W&B run a run folder; a continued run goes on under the same id.

    Args:
        save_dir: the run folder.
        purge_step: ignored, because W&B's history only grows: what a killed run logged after its last checkpoint is
            there twice, once from each attempt.
        mode: "online", "offline" or "disabled".
        arguments: of Lightning's WandbLogger and of `wandb.init`, such as `project`, `name` or `tags`.
    Raises:
        UserError: wandb is not installed, or there is no such mode; when the run opens, that W&B refuses it.
    """

    def __init__(
        self, save_dir: str | os.PathLike[str], purge_step: int | None = None, mode: str = "online", **arguments: Any
    ):
        if mode not in MODES:
            raise UserError(f"logger.mode={mode}: must be {', '.join(MODES[:-1])} or {MODES[-1]}")
        try:
            # Lightning looks at what is installed only; this also tells whether it works.
            import wandb  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

            super().__init__(save_dir=os.fspath(save_dir), mode=mode, **arguments)
        except ImportError as error:
            raise UserError(
                "logger=wandb needs a package that is not installed: pip install 'dl-zoo[wandb]'"
            ) from error
        self._failed = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._open()
        return self._experiment

    def _open(self) -> None:
        import wandb

        self._wandb_init["id"] = run_id(Path(self._wandb_init["dir"]))
        self._wandb_init.pop("anonymous", None)  # which Lightning adds, and of which W&B warns that it has no effect
        try:
            _ = super().experiment
        except (wandb.Error, ValueError, TypeError) as error:  # no login, no connection, an argument it does not take
            said = " ".join(str(error).split()).rstrip(".")
            hint = "; without its server: logger.mode=offline" if self._wandb_init["mode"] == "online" else ""
            raise UserError(f"logger=wandb: {said}{hint}") from error

    @rank_zero_only
    def log_final(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Settings as W&B's config, final metrics as its summary: the columns of its table of runs."""
        self.experiment.config.update(dict(flatten(hyperparameters)), allow_val_change=True)
        self.experiment.summary.update(dict(metrics))

    def finalize(self, status: str) -> None:
        self._failed = status != "success"
        super().finalize(status)

    def close(self) -> None:
        """Upload or write the rest and end W&B's process for this run; one that broke off is shown as failed."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(self._failed))
        self._experiment = None


def run_id(folder: Path) -> str:
    """The folder's W&B id, kept in its file `wandb-id`, so that the folder may move between a run and its continuation.

    Drawn from the operating system: every run of one seed would get the same id from a seeded generator.
    """
    file = folder / "wandb-id"
    if not file.exists():
        write_text(file, secrets.token_hex(4) + "\n")
    return file.read_text(encoding="utf-8").strip()
