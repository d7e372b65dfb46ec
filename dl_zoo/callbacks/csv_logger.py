"""The curves as one table, `metrics.csv` in the run folder, for pandas or a spreadsheet.

Wide: one row a step, one column a tag, in the order in which the tags first appear; a cell without a value is empty.
The file is replaced whole, so a kill at any moment leaves a complete one. Lightning's CSVLogger cannot be used: it
deletes the table of the run that it is to continue.
"""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dl_zoo.errors import UserError
from dl_zoo.folder import write_text

SAVE_EVERY = 5.0  # seconds of values that a crash between two checkpoints may lose
SHARE = 0.01  # of the time goes into writing, at most: a long table is replaced less often

Rows = dict[int, dict[str, float]]  # step -> tag -> value


class CSV(Logger):
    """Writes `save_dir/metrics.csv`: when asked to, and every few seconds besides. Rank 0 only.

    Args:
        save_dir: the run folder.
        purge_step: a resumed run keeps the rows before this step and drops what the interrupted one wrote at it and
            later. None begins a new table.
    Raises:
        UserError: the table that is to be continued cannot be read.
    """

    def __init__(self, save_dir: str | os.PathLike[str], purge_step: int | None = None):
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.rows: Rows = {} if purge_step is None else read(self.path, before=purge_step)
        self._is_saved = True
        self._due = monotonic() + SAVE_EVERY

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Values of one step; of a tag that comes twice at a step, the later one counts."""
        row = self.rows.setdefault(int(step or 0), {})
        row.update({tag: float(value) for tag, value in metrics.items()})
        self._is_saved = False
        if monotonic() >= self._due:
            self.save()

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: they are in config.yaml."""

    @rank_zero_only
    def log_final(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Add the final metrics whose tags are not in the table, at its last step."""
        known = columns(self.rows)
        missing = {tag: value for tag, value in metrics.items() if tag not in known}
        if missing:
            self.log_metrics(missing, max(self.rows, default=0))
        self.save()

    def save(self) -> None:  # Lightning's `finalize` calls it too
        if self._is_saved:
            return
        began = monotonic()
        write_text(self.path, table(self.rows))
        self._is_saved = True
        self._due = monotonic() + max(SAVE_EVERY, (monotonic() - began) / SHARE)

    def close(self) -> None:
        self.save()


def columns(rows: Rows) -> list[str]:
    """The tags, in the order in which they first appear down the table."""
    return list(dict.fromkeys(tag for _, row in sorted(rows.items()) for tag in row))


def table(rows: Rows) -> str:
    """The text of the file. A float is written with the digits that give it back exactly.

    >>> print(table({4: {"train/loss": 0.25}, 8: {"train/loss": 0.125, "val/acc": 0.9}}), end="")
    step,train/loss,val/acc
    4,0.25,
    8,0.125,0.9
    """
    tags, text = columns(rows), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *tags])
    writer.writerows([step, *map(row.get, tags)] for step, row in sorted(rows.items()))
    return text.getvalue()


def read(path: Path, before: int) -> Rows:
    """The rows of a table at steps below `before`; none where there is no table yet.

    Raises:
        UserError: the file is no such table, because another program saved it, say.
    """
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, strict=True))
        steps = [int(line.pop("step")) for line in lines]
        values = [{tag: float(value) for tag, value in line.items() if value} for line in lines]
    except (ValueError, TypeError, KeyError, csv.Error) as error:  # letters in a cell, too many cells, no column `step`
        raise UserError(f"{path} is not as the run wrote it; move it away, and the curves begin anew") from error
    return {step: row for step, row in zip(steps, values, strict=True) if step < before}
