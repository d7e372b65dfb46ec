"""Numbers measured again and again, what comes next? ETTh1, or any CSV with a row a step.

ETTh1: oil temperature (OT) and six loads of a transformer of a Chinese power grid, hourly from July 2016, 17,420 rows.
Zhou, Zhang, Peng, Zhang, Li, Xiong, Zhang, "Informer: Beyond Efficient Transformer for Long Sequence Time-Series
Forecasting", 2021, arXiv:2012.07436, section 5.1; licence CC BY-ND 4.0. Its first 20 months are used, of 30 days each:
12 for training, 4 for validation, 4 for test, as the authors' code and all papers since have it; what follows is left
out. Errors are of scaled values, the mean over all steps, columns and windows. Saying the last value again has a mean
squared error of 1.2220 in the 2,857 test windows of 24 hours, and of 1.2944 in the 2,785 of 96 hours; yesterday's
values again, 0.4244 and 0.5122.

On disk: `<data_dir>/ett/ETTh1.csv`, downloaded when absent, compared with its SHA-256 whenever it is read.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import isclose
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from dl_zoo.data import csv_file
from dl_zoo.data.csv_file import Table
from dl_zoo.data.download import Files, sha256
from dl_zoo.data.memory import seeded
from dl_zoo.data.retrieval import retrieved
from dl_zoo.data.series import SPLITS, SeriesData
from dl_zoo.errors import UserError

MONTH = 30 * 24  # hours
MONTHS = (12, 4, 4)
SIZE = 7  # columns of ETTh1


class CSVSeries(SeriesData):
    """See `SeriesData`.

    Args:
        path: of a CSV of one's own; None: ETTh1. A row a step, in order; numbers, and one column of dates if it likes.
        splits: shares of the rows for training, validation and test, in this order; None: 12, 4 and 4 months of ETTh1,
            and of a file of one's own 0.6, 0.2 and 0.2.
        column: names of those to forecast, one or a list; None: all. All are read.
        steady: every date must be as far from the one before as most are; False: only later.

    Raises:
        UserError: as `csv_file.read` and `Table.numbers`, with file, line and column.
    """

    archives: ClassVar[list[str]] = ["https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/"]
    digests: ClassVar[dict[str, str]] = {
        "ETTh1.csv": "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    }

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        path: str | None = None,
        splits: Sequence[float] | None = None,
        column: str | Sequence[str] | None = None,
        steady: bool = True,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        self.path, self.steady = path, steady
        self.shares = None if splits is None else shares(splits)
        self.column = [column] if isinstance(column, str) else None if column is None else list(column)

    @property
    def files(self) -> Files:
        return Files("csv_series", Path(self.data_dir), "ett", self.digests, sha256, "sine_series")

    def absent(self) -> list[str]:
        return [] if self.path else self.files.missing()

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        if not self.path:
            self.files.fetch(self.archives, lambda address, scratch: retrieved(address, self.digests, scratch))

    def measured(self) -> tuple[Tensor, list[str], int, list[int]]:
        self.prepare_data()  # for who calls setup alone
        table = csv_file.read(self.path or self.files.checked("ETTh1.csv"), self.context + self.horizon)
        columns, targets = self.chosen(table)
        values = torch.tensor([table.numbers(name) for name in columns], dtype=torch.float64).T.contiguous()
        return values, columns, targets, self.ends(len(values))

    def chosen(self, table: Table) -> tuple[list[str], int]:
        """Columns of numbers, those to forecast first, and how many these are. The dates are looked at, too."""
        dates = csv_file.date_column(table)
        if dates:
            table.dates(dates, self.steady)
        numeric = [name for name in table.columns if name != dates]
        if not numeric:
            raise UserError(f"{table.path}: has no column of numbers")
        wanted = numeric if self.column is None else self.column
        for name in wanted:
            if name not in numeric:
                raise UserError(f"data.column={name}: {table.path} has no such column; it has {', '.join(numeric)}")
        if not wanted or len(set(wanted)) < len(wanted):
            raise UserError(f"data.column=[{','.join(wanted)}]: must name columns, each once; null: all")
        return [*wanted, *(name for name in numeric if name not in wanted)], len(wanted)

    def ends(self, rows: int) -> list[int]:
        if self.path is None and self.shares is None:
            return [MONTH * months for months in accumulate(MONTHS)]
        return [round(rows * share) for share in accumulate(self.shares or (0.6, 0.2, 0.2))]

    def pretend(self, items: int) -> None:
        size, targets = SIZE, len(self.column or range(SIZE))
        if self.path:  # it is here, and there may be something wrong with it
            size, targets = self.read()["train"][0].shape[2], self.targets
        one = self.pretended_windows(items, size, targets, seeded(self.seed))
        self.dims = self._agreed_dims(one[0])
        self.splits = dict.fromkeys(SPLITS, one)


def shares(given: Sequence[float]) -> list[float]:
    """UserError where these are no three shares of a whole."""
    numbers = [float(share) for share in given if isinstance(share, int | float)]
    if len(numbers) != 3 or len(given) != 3 or min(numbers) <= 0 or not isclose(sum(numbers), 1, abs_tol=1e-6):
        shown = ",".join(map(str, given))
        raise UserError(f"data.splits=[{shown}]: must be three shares above 0 that add up to 1, such as [0.6,0.2,0.2]")
    return numbers
