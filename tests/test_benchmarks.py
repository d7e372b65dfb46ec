"""What the benchmarks share: the timing of pairs, and the tables that come of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import pairs

    return pairs


class Clock:
    """Each of two works takes its time, and the machine gets slower and slower."""

    def __init__(self, ours: float, other: float):
        self.time, self.order = 0.0, ""
        self.costs = {"a": ours, "b": other}

    def work(self, name: str) -> Any:
        def step() -> None:
            self.order += name
            self.time += self.costs[name] * (1 + 0.001 * len(self.order))

        return step


@pytest.mark.parametrize(("ours", "slower"), [(1.0, False), (1.1, True), (0.9, False)])
def test_pairs_see_through_a_machine_that_changes(
    ours: float, slower: bool, pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(ours, 1.0)
    monkeypatch.setattr(pairs, "now", lambda device: clock.time)
    row = pairs.compare(clock.work("a"), clock.work("b"), CPU, pairs=20, repeats=2)
    assert clock.order[2 * pairs.WARM_UP :][:12] == "aabbbbaaaabb", "who goes first alternates"
    assert row["ratio"] == pytest.approx(ours, abs=0.004)
    assert row["low"] <= row["ratio"] <= row["high"]
    assert pairs.slower(row) is slower
    assert row["other_ms"] == pytest.approx(1000, rel=0.2)


def test_the_interval_of_a_median(pairs: Any) -> None:
    """The 6th and the 15th of 20: outside of these the median is with 2 * 0.0207, by the binomial distribution."""
    assert pairs.interval([float(value) for value in range(20, 0, -1)]) == (6.0, 15.0)


def test_the_table_of_attention(pairs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tables

    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert len(tables.attention().splitlines()) == 2, "nothing has been measured"
    row = {"ours_ms": 1.234, "other_ms": 2.0, "ratio": 0.617, "low": 0.6, "high": 0.63}
    content = {"device": "cpu, 2 threads", "cases": {"layer small, pre": row}}
    (tmp_path / "attention-cpu.json").write_text(json.dumps(content))
    written = tables.TABLES["attention"]().splitlines()
    assert written[2:] == ["| layer small, pre, step | 1.23 | 2.00 | 0.617 (0.600 to 0.630) | cpu, 2 threads |"]
