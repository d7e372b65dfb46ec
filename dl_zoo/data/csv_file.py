"""Files of comma-separated values as people have them, and errors that name file, line and column.

A line of names first, then a row a line. UTF-8; separated by commas, semicolons or tabs, whichever the names are.
"""

import csv
import math
from calendar import monthrange
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from dl_zoo.errors import UserError

SEPARATORS = ",;\t"
GAPS = ("", "na", "n/a", "nan", "null", "none", "?", "-")  # what stands where nothing was measured, in small letters


@dataclass(frozen=True)
class Table:
    path: Path
    columns: list[str]
    rows: list[list[str]]  # cells without white space at their ends
    lines: list[int]  # of the file, where each row ends

    def at(self, row: int, column: str) -> str:
        return f"{self.path}, line {self.lines[row]:,}, column {column!r}"

    def cells(self, column: str) -> list[str]:
        """UserError where there is no such column, or a cell is empty."""
        if column not in self.columns:
            raise UserError(f"{self.path}: has no column {column!r}; it has {', '.join(self.columns)}")
        place = self.columns.index(column)
        cells = [row[place] for row in self.rows]
        for row, cell in enumerate(cells):
            if cell.lower() in GAPS:
                what = f"holds {cell!r}, which is no value" if cell else "is empty"
                raise UserError(f"{self.at(row, column)}: {what}; fill the gap or leave out the column")
        return cells

    def numbers(self, column: str) -> list[float]:
        """UserError where one is missing, is text or is not finite."""
        cells = self.cells(column)
        found = [number(cell) for cell in cells]
        for row, value in enumerate(found):
            if value is None:
                raise UserError(f"{self.at(row, column)}: {cells[row]!r} is no number")
        return [value for value in found if value is not None]

    def is_numeric(self, column: str) -> bool:
        """Whether more of its cells are numbers than are text: an odd one of the other kind is then a mistake."""
        place = self.columns.index(column)
        numeric = [number(row[place]) is not None for row in self.rows if row[place].lower() not in GAPS]
        return 2 * sum(numeric) > len(numeric)

    def dates(self, column: str, steady: bool = True) -> list[datetime]:
        """In ISO 8601. UserError where one is missing, is no date, or is not as far from the last as all others are.

        `steady=False`: any later one will do.
        """
        cells = self.cells(column)
        found = [date(cell) for cell in cells]
        for row, value in enumerate(found):
            if value is None:
                raise UserError(f"{self.at(row, column)}: {cells[row]!r} is no date such as 2016-07-01 00:00:00")
        dates = [value for value in found if value is not None]
        if len({value.tzinfo is None for value in dates}) > 1:
            raise UserError(f"{self.path}, column {column!r}: some dates have a time zone and some have none")
        step = usual_step(dates)
        for row in range(1, len(dates)):
            if dates[row] <= dates[row - 1]:
                raise UserError(
                    f"{self.at(row, column)}: {cells[row]} is not later than the row before; put them in order"
                )
            if steady and dates[row] != after(dates[row - 1], step):
                gap = f"{cells[row]} comes after {cells[row - 1]}, where others are {said(step)} apart"
                raise UserError(f"{self.at(row, column)}: {gap}; fill the gap, or train with data.steady=false")
        return dates


def read(path: str | Path, least: int = 1) -> Table:
    """UserError: no such file, nothing in it, no UTF-8, no names, names twice, uneven rows, fewer than `least` rows."""
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text in UTF-8 (byte {error.start:,}); save it as CSV in UTF-8") from error
    if not text.strip():
        raise UserError(f"{path}: is empty; a line of column names and rows of values are needed")
    first = text.lstrip().splitlines()[0]
    reader = csv.reader(text.splitlines(keepends=True), delimiter=max(SEPARATORS, key=first.count))
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num:,}: {error}") from error
    columns, where = rows.pop(0), lines.pop(0)
    if any(number(name) is not None for name in columns):
        raise UserError(f"{path}, line {where}: {first[:60]!r} should be the names of the columns, and holds numbers")
    twice = [name or "(no name)" for name, times in Counter(columns).items() if times > 1 or not name]
    if twice:
        raise UserError(f"{path}, line {where}: the column {twice[0]} is there twice or has no name")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(columns):
            raise UserError(f"{path}, line {line:,}: has {len(row)} cells, and there are {len(columns)} columns")
    if len(rows) < least:
        raise UserError(f"{path}: has {len(rows):,} row{'s' * (len(rows) != 1)}, and {least:,} are needed")
    return Table(path, columns, rows, lines)


def number(cell: str) -> float | None:
    """
    >>> number("1.5e3"), number("1_000"), number("inf"), number("")
    (1500.0, None, None, None)
    """
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None


def date(cell: str) -> datetime | None:
    try:
        return datetime.fromisoformat(cell)
    except ValueError:
        return None


def date_column(table: Table) -> str | None:
    """The first column that begins with a date and is no number; or where all are numbers such as 20240131."""
    for place, (name, cell) in enumerate(zip(table.columns, table.rows[0], strict=True)):
        if number(cell) is None and date(cell) is not None:
            return name
        if len(cell) == len("20240131") and all(row[place].isdigit() and date(row[place]) for row in table.rows):
            return name
    return None


# ---- steps of time ---------------------------------------------------------------------------------------------------

Step = timedelta | int  # a time, or whole months


def usual_step(dates: Sequence[datetime]) -> Step:
    """From one to the next in most places: months where all are the same time of the same day, or of the last one."""
    if len(dates) < 2:
        return timedelta(days=1)
    step = Counter(later - earlier for earlier, later in pairwise(dates)).most_common(1)[0][0]
    ends = all(is_months_end(each) for each in dates)
    same = len({(0 if ends else each.day, each.time()) for each in dates}) == 1
    if step < timedelta(days=28) or not same or (dates[0].day > 28 and not ends):
        return step
    months = Counter(month(later) - month(earlier) for earlier, later in pairwise(dates))
    return months.most_common(1)[0][0]


def month(when: datetime) -> int:
    return 12 * when.year + when.month - 1


def after(when: datetime, step: Step, times: int = 1) -> datetime:
    """Of the last day of a month, the last day of another.

    >>> [after(datetime(2024, 11, day), 1, 3).date().isoformat() for day in (1, 30)]
    ['2025-02-01', '2025-02-28']
    """
    if isinstance(step, timedelta):
        return when + times * step
    year, place = divmod(month(when) + times * step, 12)
    last = monthrange(year, place + 1)[1]
    return when.replace(year=year, month=place + 1, day=last if is_months_end(when) else min(when.day, last))


def is_months_end(when: datetime) -> bool:
    return when.day == monthrange(when.year, when.month)[1] and when.day >= 28


def said(step: Step) -> str:
    """
    >>> said(timedelta(hours=1)), said(timedelta(days=2)), said(1)
    ('1:00:00', '2 days', '1 month')
    """
    if isinstance(step, timedelta):
        return str(step).removesuffix(", 0:00:00")
    return f"{step} month{'s' * (step != 1)}"
