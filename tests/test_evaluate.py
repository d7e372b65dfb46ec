"""What `evaluate` says of each class: counts, shares and intervals, against SciPy and scikit-learn."""

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Said, one_line
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from dl_zoo.callbacks.by_class import as_csv, as_table, by_class, wilson
from dl_zoo.callbacks.predictions import Predictions
from dl_zoo.commands.evaluate import evaluate, measure
from dl_zoo.run import Result


@pytest.mark.parametrize(("right", "items"), [(0, 1), (1, 1), (0, 40), (40, 40), (3, 7), (500, 1000), (49999, 50000)])
def test_the_interval_is_wilsons(right: int, items: int) -> None:
    expected = binomtest(right, items).proportion_ci(0.95, method="wilson")
    assert wilson(right, items) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= wilson(right, items)[0] <= right / items <= wilson(right, items)[1] <= 1


def test_the_interval_covers_what_it_says() -> None:
    """Of all that can come of 60 tosses, the intervals that hold the coin's bias have about 95 % of the weight."""
    for bias in (0.1, 0.5, 0.83):
        holding = sum(
            math.comb(60, k) * bias**k * (1 - bias) ** (60 - k)
            for k in range(61)
            if wilson(k, 60)[0] <= bias <= wilson(k, 60)[1]
        )
        assert holding == pytest.approx(0.95, abs=0.02)


def test_measures_are_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(5, (300,), generator=generator)
    answers = torch.where(torch.rand(300, generator=generator) < 0.7, targets, targets.roll(1))
    rows = by_class(targets, answers, list("abcde"))
    precision, recall, f1, items = precision_recall_fscore_support(targets, answers)
    for i, row in enumerate(rows):
        assert (row.index, row.name, row.items) == (i, "abcde"[i], items[i])
        assert (row.precision, row.recall, row.f1) == pytest.approx((precision[i], recall[i], f1[i]))
    assert sum(row.right for row in rows) == int((targets == answers).sum())


def test_what_has_no_target_is_left_out_and_what_never_occurs_is_empty() -> None:
    rows = by_class(torch.tensor([0, 0, -100, 1]), torch.tensor([0, 1, 1, 1]), ["x, y", "nan", "never"])
    assert [(row.items, row.answers, row.right) for row in rows] == [(2, 1, 1), (1, 2, 1), (0, 0, 0)]
    read = list(csv.reader(io.StringIO(as_csv(rows))))
    assert read[1][:5] == ["0", "x, y", "2", "1", "1"]
    assert read[2][1] == "nan"
    assert read[3] == ["2", "never", "0", "0", "0", *[""] * 7]
    assert as_table(rows).splitlines()[3].split() == ["never", "0", "-", "-", "-"]


def test_many_classes_are_shown_by_their_worst() -> None:
    targets = torch.arange(21).repeat(10)
    answers = torch.where(torch.arange(210) // 21 < targets // 2, (targets + 1) % 21, targets)
    rows = by_class(targets, answers, [f"class number {i} with a long name" for i in range(21)])
    lines = as_table(rows).splitlines()
    assert lines[0] == "the 5 of 21 classes with the lowest f1:"
    assert len(lines) == 7
    worst = sorted(rows, key=lambda row: row.f1)[:5]
    assert [line[:20] for line in lines[2:]] == [row.name[:20] for row in worst]
    assert len(as_table(rows[:20]).splitlines()) == 21


def test_a_prediction_without_a_target_has_no_probability_of_it() -> None:
    kept = Predictions()
    outputs = {"output": torch.tensor([[0.0, 1.0], [2.0, 0.0]]), "targets": torch.tensor([1, -100])}
    kept.on_test_batch_end(None, None, outputs, None, 0)  # type: ignore[arg-type]
    assert [line.split(",")[1:3] for line in kept.as_csv().splitlines()[1:]] == [["1", "1"], ["-100", "0"]]
    assert kept.as_csv().splitlines()[2].endswith(",nan")


def test_evaluate_writes_and_prints_the_classes(finished: Result, tmp_path: Path, cli: Callable[..., Said]) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished.folder, moved)
    said = cli("evaluate", str(moved))
    assert said.code == 0
    metrics = json.loads((moved / "evaluation-test.json").read_text())
    with (moved / "classes-test.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (moved / "predictions-test.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list("0123456789")
    for row in rows:
        of_class = [p for p in predictions if p["target"] == row["class"]]
        right = sum(p["prediction"] == row["class"] for p in of_class)
        assert (int(row["items"]), int(row["right"])) == (len(of_class), right)
        assert float(row["recall"]) == pytest.approx(right / len(of_class), abs=1e-6)
    right = sum(int(row["right"]) for row in rows)
    assert right / 360 == pytest.approx(metrics["test/acc"])
    assert (metrics["test/acc_low"], metrics["test/acc_high"]) == pytest.approx(wilson(right, 360))
    assert f"95 % interval {metrics['test/acc_low']:.4f} to {metrics['test/acc_high']:.4f}" in said.out
    assert said.out.count("\n0  ") == said.out.count("\n9  ") == 1
    assert "acc_low" not in said.out
    assert all(isinstance(value, float) for value in metrics.values()), "flat"


def test_data_of_other_classes_are_not_measured(finished: Result, cli: Callable[..., Said]) -> None:
    said = one_line(cli("evaluate", str(finished.folder), "--", "data.classes=['3', '4']"))
    assert said == (
        "dl-zoo: the run tells 10 classes apart and these data have 2; the first that differs is 0 there and 3 here"
    )


def test_other_splits_have_their_own_files(finished: Result, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished.folder, moved)
    result = measure(moved, "val", "last")
    assert [file.name for file in result.files] == ["evaluation-val.json", "predictions-val.csv", "classes-val.csv"]
    assert {"val/acc", "val/acc_low", "val/acc_high"} <= result.metrics.keys()
    assert sum(row.items for row in result.classes) == 360
    assert evaluate(moved, "val", "last") == (result.metrics, result.files)


def test_a_whole_group_is_told(finished: Result, cli: Callable[..., Said]) -> None:
    said = one_line(cli("evaluate", str(finished.folder), "trainer=cpu"))
    assert said == ("dl-zoo: trainer=cpu: a run keeps its own trainer; set single values of it, as trainer.NAME=VALUE")
