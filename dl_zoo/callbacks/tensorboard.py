"""TensorBoard in the run folder itself: one event file a process, and an HParams tab that is not empty.

Lightning's logger adds `hparams.yaml`, and closes the event file after fit, so that test opens another one. Here the
file stays open until `close()`, or until the process ends; each stage ends with a flush.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

CHOICES = ("task", "data", "model", "optimizer", "scheduler", "initializer")
# Where things lie, how they are shown, and a dataset's facts: columns in which there is nothing to compare.
NOT_COMPARED = (
    "run_dir", "data_dir", "resume", "dims", "name", "logger", "debug", "diagnostics", "pictures", "checkpoint_every",
    "hydra",
)  # fmt: skip


class Writer(SummaryWriter):
    """A SummaryWriter that remembers the last step of each scalar."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.steps: dict[str, int] = {}
        super().__init__(*args, **kwargs)

    def add_scalar(
        self, tag: str, scalar_value: Any, global_step: int | None = None, *args: Any, **kwargs: Any
    ) -> None:
        self.steps[tag] = global_step or 0
        super().add_scalar(tag, scalar_value, global_step, *args, **kwargs)


class TensorBoard(TensorBoardLogger):
    """Writes to `save_dir`, without a sub-folder.

    `purge_step`: a resumed run hides what the interrupted one wrote at this step and later.
    """

    def __init__(self, save_dir: str | os.PathLike[str], purge_step: int | None = None, **writer: Any):
        super().__init__(
            os.fspath(save_dir), name="", version="", default_hp_metric=False, purge_step=purge_step, **writer
        )

    @property
    def log_dir(self) -> str:
        return self.save_dir  # Lightning's expands $ and ~ in the path and ends it with a slash

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        if self._experiment is None:
            after_the_others(Path(self.log_dir))
            self._experiment = Writer(self.log_dir, **self._kwargs)
        return self._experiment

    def save(self) -> None:  # not Lightning's, which adds hparams.yaml
        if self._experiment is not None:
            self._experiment.flush()

    def finalize(self, status: str) -> None:  # not Lightning's, which closes the file: test and HParams come later
        self.save()

    @rank_zero_only
    def log_final(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        log_hyperparameters(self.experiment, hyperparameters, metrics)

    def close(self) -> None:
        """Close the event file, if there is one; its thread would stay behind for each run of a sweep."""
        if self._experiment is not None:
            self._experiment.close()


def after_the_others(folder: Path) -> None:
    """Event files are read in the order of their names, which hold the second; wait for one that is new."""
    seconds = [int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")]
    if seconds:
        time.sleep(min(1.0, max(0.0, max(seconds) + 1 - time.time())))


def log_hyperparameters(
    writer: SummaryWriter, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """Fill the HParams tab: settings and final metrics together, once, when both are known.

    TensorBoard shows a metric's value only where a scalar of that tag is in the run: one that is missing is added at
    the last step; one that is there is left as it is. torch's third summary, the experiment, is left out: TensorBoard
    takes its columns from that of one run alone, so runs of different nets would show only what the first one has.
    Without it the columns are those of all the runs.

    A number a layer (`probe/gradient/07`) becomes a curve over the layers, `probe/gradient` at step 7.
    """
    steps = getattr(writer, "steps", {})
    metrics, profiles = apart(metrics)
    for tag in metrics.keys() - steps.keys():
        writer.add_scalar(tag, metrics[tag], max(steps.values(), default=0))
    for tag, place, value in profiles:
        writer.add_scalar(tag, value, place)
    _, start, end = hparams(dict(flatten(hyperparameters)), dict(metrics))
    file = writer._get_file_writer()
    file.add_summary(start)
    file.add_summary(end)
    writer.flush()


def apart(metrics: Mapping[str, float]) -> tuple[dict[str, float], list[tuple[str, int, float]]]:
    """Single numbers; and those of a numbered series (a number a layer), as points of one curve.

    >>> apart({"test/acc": 0.9, "probe/gradient/01": 2.0, "probe/gradient/02": 3.0})
    ({'test/acc': 0.9}, [('probe/gradient', 1, 2.0), ('probe/gradient', 2, 3.0)])
    """
    single: dict[str, float] = {}
    profiles: list[tuple[str, int, float]] = []
    for name, value in metrics.items():
        tag, _, place = name.rpartition("/")
        if place.isdigit():
            profiles.append((tag, int(place), value))
        else:
            single[name] = value
    return single, profiles


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float | str]]:
    """Columns of the HParams table: dotted names, plain values; what was chosen in a group by its class's name.

    >>> dict(flatten({"seed": 0, "model": {"_target_": "zoo.LeNet5", "act": "tanh", "sizes": [6, 16], "rate": None}}))
    {'seed': 0, 'model': 'LeNet5', 'model.act': 'tanh', 'model.sizes': '[6, 16]'}
    """
    for key, value in settings.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if key == "_target_" and prefix in CHOICES:
            yield prefix, value.rpartition(".")[2]
        elif str(key).startswith("_") or key in NOT_COMPARED or name == "data.seed":  # which follows the seed
            continue
        elif name == "regularizer" and isinstance(value, Mapping):
            yield name, "+".join(sorted(value)) or "none"
            yield from flatten(value, name)
        elif isinstance(value, Mapping):
            yield from flatten(value, name)
        elif isinstance(value, bool):
            yield name, str(value).lower()  # torch would write 1.0: it takes a bool for a number
        elif isinstance(value, int | float | str):
            yield name, value
        elif isinstance(value, Sequence):
            yield name, str(list(value))
