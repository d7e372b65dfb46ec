"""Rows of a table: from some columns of a CSV another one is told, a class or a number.

Columns of numbers are scaled (less the mean of the training rows, by their deviation); a column of texts becomes as
many inputs as it has different ones among the training rows, 1 for the row's own and 0 else, so all are 0 for a text
never met. Rows are dealt out at random, the same whatever the seed of a run; of classes each split has its share.

Without a file: Fisher's irises (1936, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7;
150 flowers of three species, four sizes), or to predict numbers the progression of diabetes in a year (Efron, Hastie,
Johnstone, Tibshirani 2004, "Least angle regression", Annals of Statistics 32; 442 patients, ten columns). Both come
with scikit-learn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data import csv_file
from dl_zoo.data.csv_file import Table, number
from dl_zoo.data.csv_series import shares
from dl_zoo.data.memory import MemoryData, Split, stratified
from dl_zoo.errors import UserError

KINDS = ("classes", "numbers")
TEXTS = 50  # different ones of a column: with more it is likely a name or a note
CLASSES = 100


class CSVTable(MemoryData):
    """Inputs (N, features) float32; targets (N,) int64, or (N, 1) float32, scaled, to predict `numbers`.

    Args:
        kind: of the target, "classes" or "numbers".
        path: of a CSV; None: what comes with scikit-learn.
        target: its column; None: the last one.
        ignore: columns that are not looked at.
        splits: shares of the rows for training, validation and test.

    After `setup` there is also `normalisation`, by which `encoded` reads other rows alike; a checkpoint keeps it.

    Raises:
        UserError: as `csv_file.read` and `Table.numbers`, with file, line and column.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        kind: str = "classes",
        path: str | None = None,
        target: str | None = None,
        ignore: Sequence[str] = (),
        splits: Sequence[float] = (0.6, 0.2, 0.2),
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        if kind not in KINDS:
            raise UserError(f"data.kind={kind}: must be one of {', '.join(KINDS)}")
        self.kind, self.path, self.target, self.ignore = kind, path, target, [*ignore]
        self.shares, self.classes = shares(splits), []
        self.normalisation: dict[str, Any] | None = None

    def read(self) -> dict[str, Split]:
        table = csv_file.read(self.path, least=5) if self.path else embedded(self.kind)
        target = table.columns[-1] if self.target is None else self.target
        for name in (target, *self.ignore):
            if name not in table.columns:
                raise UserError(f"{table.path}: has no column {name!r}; it has {', '.join(table.columns)}")
        told = self.labels_of(table, target) if self.kind == "classes" else numbers_of(table, target)
        parts = self.dealt(told)
        known = fitted(table, [name for name in table.columns if name not in (target, *self.ignore)], parts["train"])
        if self.kind == "numbers":
            mean, std = told[parts["train"]].mean(), told[parts["train"]].std(correction=0).clamp(min=1e-12)
            known |= {"target_mean": float(mean), "target_std": float(std)}
            told = ((told - mean) / std).float().unsqueeze(1)
        self.normalisation = {**known, "target": target}
        inputs = encoded(table, self.normalisation)
        return {name: (inputs[rows], told[rows]) for name, rows in parts.items()}

    def labels_of(self, table: Table, target: str) -> Tensor:
        """(N,); sets `classes`, in the order of their numbers where all are numbers, else of the alphabet."""
        cells = table.cells(target)
        different = sorted(set(cells))
        if not 2 <= len(different) <= CLASSES:
            many = "; to predict numbers, data=csv_table_numbers task=regression" if len(different) > 1 else ""
            raise UserError(
                f"{table.path}, column {target!r}: has {len(different):,} different values, which are no classes{many}"
            )
        values = [number(each) for each in different]
        if None not in values:
            different = [each for _, each in sorted(zip(values, different, strict=True))]
        self.classes = different
        return torch.tensor([different.index(cell) for cell in cells])

    def dealt(self, told: Tensor) -> dict[str, Tensor]:
        """The rows of each split."""
        held, test = (round(len(told) * sum(self.shares[first:])) for first in (1, 2))
        if not 0 < test < held < len(told):
            raise UserError(f"{self.path}: has {len(told):,} rows, too few for three splits")
        if self.kind == "classes":
            kept, rest = stratified(told, held)
            val, last = stratified(told[rest], test)
            return {"train": kept, "val": rest[val], "test": rest[last]}
        order = torch.from_numpy(np.random.RandomState(0).permutation(len(told)))
        return dict(zip(("train", "val", "test"), order.split([len(told) - held, held - test, test]), strict=True))

    def _check_targets(self, split: str, targets: Tensor) -> None:
        pass  # they are numbered here

    def facts(self, inputs: Any) -> dict[str, Any]:
        outputs = {"num_classes": len(self.classes)} if self.classes else {"num_classes": 1, "num_targets": 1}
        return {"features": inputs.shape[1], **outputs}

    def pretend(self, items: int) -> None:
        """Rows of the table itself, which is here anyway, and which there may be something wrong with."""
        self.setup()
        rows = torch.arange(items) % len(self.splits["train"][1])
        inputs, targets = self.splits["train"]
        assert isinstance(inputs, Tensor)
        self.splits = dict.fromkeys(self.splits, (inputs[rows], targets[rows]))


def numbers_of(table: Table, column: str) -> Tensor:
    return torch.tensor(table.numbers(column), dtype=torch.float64)


def fitted(table: Table, columns: Sequence[str], rows: Tensor) -> dict[str, Any]:
    """What must be known of columns to read others like them: mean and deviation of numbers, or the different texts."""
    if not columns:
        raise UserError(f"{table.path}: has no column besides the target")
    known: dict[str, Any] = {"columns": [*columns], "mean": [], "std": [], "texts": []}
    for name in columns:
        mean, std, texts = 0.0, 1.0, None
        if table.is_numeric(name):
            values = numbers_of(table, name)[rows]
            mean, std = float(values.mean()), float(values.std(correction=0))
            std = std if std > 1e-12 * max(1.0, abs(mean)) else 1.0  # a column that never changes
        else:
            cells = table.cells(name)
            texts = sorted({cells[row] for row in rows.tolist()})
            if len(texts) > TEXTS:
                raise UserError(
                    f"{table.path}, column {name!r}: has {len(texts):,} different texts, too many to learn from;"
                    f" data.ignore=[{name}] leaves it out"
                )
        for key, value in {"mean": mean, "std": std, "texts": texts}.items():
            known[key].append(value)
    return known


def encoded(table: Table, known: Mapping[str, Any]) -> Tensor:
    """(N, features) float32 of a table with these columns, in any order, among others. UserError as `Table.numbers`."""
    parts = []
    for name, mean, std, texts in zip(*(known[key] for key in ("columns", "mean", "std", "texts")), strict=True):
        if texts is None:
            parts.append((numbers_of(table, name)[:, None] - mean) / std)
        else:
            parts.append(torch.tensor([[cell == text for text in texts] for cell in table.cells(name)]).double())
    return torch.cat(parts, 1).float()


def embedded(kind: str) -> Table:
    """A table of scikit-learn's as a file would be."""
    from sklearn.datasets import load_diabetes, load_iris

    if kind == "classes":
        data = load_iris()
        name, told = "species", [str(data.target_names[each]) for each in data.target]
    else:
        data = load_diabetes(scaled=False)
        name, told = "progression", [str(each) for each in data.target.tolist()]
    columns = [each.removesuffix(" (cm)").replace(" ", "_") for each in data.feature_names]
    rows = [[*map(str, row), cell] for row, cell in zip(data.data.tolist(), told, strict=True)]
    return Table(Path("iris" if kind == "classes" else "diabetes"), [*columns, name], rows, [*range(2, len(rows) + 2)])
