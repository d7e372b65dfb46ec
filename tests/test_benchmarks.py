"""What the benchmarks share: the timing of pairs, and the tables that come of it."""

import json
import sys
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


# ---- parity


@pytest.fixture
def parity(pairs: Any) -> Any:
    import parity

    return parity


def case_of(parity: Any, words: str) -> Any:
    return next(case for name, case in parity.CASES.items() if words in name)


SMALL = ["EncoderLayer norm=post", "Transformer norm=pre", "from_scratch.attention"]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("words", SMALL)
def test_parity_of_a_small_net_and_of_its_damaged_twin(words: str, parity: Any) -> None:
    case = case_of(parity, words)
    row = parity.measured(case, *parity.both(case))
    assert row["holds"]
    assert 0 <= row["outputs"] < row["limit"] / 10
    ours, theirs = parity.both(case)
    weight = list(ours.parameters())[-1].detach()
    weight[(0,) * weight.ndim] += 1e-2
    assert not parity.measured(case, ours, theirs)["holds"]


def test_parity_of_everything_written_out_and_of_its_damaged_twin(parity: Any) -> None:
    cases = [case for name, case in parity.CASES.items() if "from_scratch" in name]
    assert len(cases) > 30
    for case in cases:
        row = parity.measured(case, *parity.both(case))
        assert row["holds"], case.name
        ours, theirs = parity.both(case)
        next(ours.parameters()).data.add_(1e-2)
        assert not parity.measured(case, ours, theirs)["holds"], case.name


def test_parity_goes_back_by_what_is_written_out(parity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slope that is wrong by a thousandth, behind outputs that are right."""
    from dl_zoo.from_scratch import convolution

    right, case = convolution.col2im, case_of(parity, "from_scratch.lenet")
    monkeypatch.setattr(convolution, "col2im", lambda *given: 1.001 * right(*given))
    row = parity.measured(case, *parity.both(case))
    assert row["outputs"] < row["limit"] < row["gradients"]


def test_parity_sees_a_gradient_that_differs_alone(parity: Any) -> None:
    case = case_of(parity, SMALL[0])
    ours, theirs = parity.both(case)
    ours.feed.inner.bias.register_hook(lambda gradient: 1.001 * gradient)
    row = parity.measured(case, ours, theirs)
    assert row["outputs"] < row["limit"] < row["gradients"] == pytest.approx(1e-3, rel=0.01)
    assert row["holds"] is False


def test_parity_of_what_is_not_a_number_does_not_hold(parity: Any) -> None:
    case = case_of(parity, SMALL[0])
    ours, theirs = parity.both(case)
    ours.feed_norm.bias.register_hook(lambda gradient: gradient * torch.nan)
    assert parity.measured(case, ours, theirs)["holds"] is False


def test_parity_carries_weights_by_a_file(parity: Any) -> None:
    case = case_of(parity, "resnet18")._replace(inputs=lambda **_: (torch.randn(2, 3, 32, 32),))
    assert parity.measured(case, *parity.both(case))["outputs"] == 0


def test_parity_says_what_did_not_run(parity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    row = parity.one(case_of(parity, "gpt2_xl"))
    assert (row["holds"], row["why"][:7]) == (None, "not run")
