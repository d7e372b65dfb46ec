"""The judge: each statistic against a worked example, each rule against values whose verdict is known, and the judge
itself broken in every way we could think of, each of which must be noticed by those cases."""

import itertools
import math
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.special import ndtr, ndtri

from dl_zoo.claims import card, judge, statistics

# ---- statistics -------------------------------------------------------------------------------------------------


def test_paired_t_on_students_own_example() -> None:
    """Ten patients' hours of sleep gained by one drug over another (Student 1908): 1.58, s = 1.23, t(0.95, 9) = 1.8331."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    bounds = statistics.t_bounds([b - a for a, b in zip(first, second, strict=True)])
    half = 1.8331129 * 1.2299955 / math.sqrt(10)
    assert bounds == pytest.approx((1.58, 1.58 - half, 1.58 + half), abs=1e-5)


def test_two_one_sided_tests_by_hand() -> None:
    """mean 0.002, s = 0.0135093, t(0.95, 4) = 2.1318468: within 0.015, and not shown to be within 0.0145."""
    gaps = [0.01, -0.02, 0.015, 0.0, 0.005]
    half = 2.1318468 * 0.0135093 / math.sqrt(5)
    assert statistics.t_bounds(gaps)[1:] == pytest.approx((0.002 - half, 0.002 + half), abs=1e-6)
    for by, verdict in ((0.015, "CONFIRMED"), (0.0145, "INCONCLUSIVE")):
        rule = {"kind": "equivalent", "metric": "test/acc", "arm": "a", "than": "b", "by": by}
        arms = {"a": runs(gaps, "test/acc"), "b": runs([0.0] * 5, "test/acc")}
        assert judge.equivalent(rule, arms).verdict == verdict


def test_bootstrap_against_all_resamples() -> None:
    """BCa by its formulas (Efron 1987) over all 5^5 resamples of the heights, instead of 9,999 random ones."""
    curves = [[1.0, 1.4], [2.0, 2.6], [0.4, 0.2], [3.9, 4.1], [1.1, 0.5]]
    heights = np.array([np.mean(curve) for curve in curves])
    means = np.sort([np.mean(draw) for draw in itertools.product(heights, repeat=5)])
    mean = heights.mean()
    z0 = ndtri((np.sum(means < mean) + np.sum(means <= mean)) / 2 / len(means))
    jack = np.array([np.delete(heights, i).mean() for i in range(5)])
    lean = jack.mean() - jack
    a = (lean**3).sum() / (6 * (lean**2).sum() ** 1.5)
    low, high = (ndtr(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in (ndtri(0.05), ndtri(0.95)))
    exact = (mean, *np.quantile(means, [low, high]))
    assert statistics.bootstrap_bounds(curves) == pytest.approx(exact, abs=0.05)
    assert statistics.bootstrap_bounds(curves) == statistics.bootstrap_bounds(curves)  # the same draws each time


def test_mcnemar_by_hand() -> None:
    """8 items against 1: P(at least 8 of 9 heads) = (9 + 1) / 512."""
    found = statistics.mcnemar([[True] * 8 + [False] * 3], [[False] * 8 + [True] + [False] * 2])
    assert found == (8, 1, pytest.approx(10 / 512), pytest.approx(511 / 512))
    assert statistics.mcnemar([[True, False]], [[True, False]])[2:] == (1.0, 1.0)


def test_mcnemar_counts_an_item_once_however_many_seeds() -> None:
    first, second = [[True] * 8 + [False]] * 5, [[False] * 8 + [True]] * 5
    assert statistics.mcnemar(first, second)[:3] == (8, 1, pytest.approx(10 / 512))


def test_what_does_not_vary_is_its_own_bound_and_one_value_has_none() -> None:
    assert statistics.t_bounds([0.3, 0.3]) == (0.3, 0.3, 0.3)
    assert math.isnan(statistics.t_bounds([0.3]).low)
    assert math.isnan(statistics.bootstrap_bounds([[0.3]]).high)


# ---- verdicts that are known ------------------------------------------------------------------------------------


def runs(values: Sequence[Any], metric: str = "test/error", seeds: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """An arm: a number a seed; "diverged" for one that did, which has the numbers of its last good epoch."""
    return [
        {"seed": seed, "status": "diverged" if value == "diverged" else "finished"}
        | {"metrics": {metric: 0.01 if value == "diverged" else value}}
        for seed, value in zip(seeds or range(len(values)), values, strict=True)
    ]


def stated(*rules: Mapping[str, Any], seeds: int = 5, **more: Any) -> dict[str, Any]:
    """A sound card over the arms a and b."""
    arms = {name: {"experiment": "none", "overrides": []} for name in ("a", "b")}
    content = {
        "article": "1.2",
        "claim": "a is better.",
        "source": "someone",
        "reported": "1",
        "departs": None,
        "arms": arms,
        "sabotage": {"a": {"overrides": ["model=mlp"]}},
        "seeds": list(range(seeds)),
        "calibration": {"seeds": [100], "commit": None},
        "tiers": {"smoke": {"overrides": []}, "cpu": {"overrides": [], "minutes": 1}},
        "rule": list(rules),
    }
    return {**content, **more}


LESS = {"kind": "less", "metric": "test/error", "arm": "a", "than": "b", "by": 0.05}
AT_MOST = {"kind": "at_most", "metric": "test/error", "arm": "a", "value": 0.03}
AT_LEAST = {"kind": "at_least", "metric": "test/error", "arm": "a", "value": 0.01}
ALIKE = {"kind": "equivalent", "metric": "test/error", "arm": "a", "than": "b", "by": 0.01}
COUNT = {"kind": "count", "metric": "test/error", "arm": "a", "k": 4, "at_most": 0.03}
EXACT = {"kind": "identity", "metric": "test/error", "arm": "a", "value": 0.02}
ITEMS = {"kind": "less", "metric": "test/error", "arm": "a", "than": "b", "by": 0, "over": "items"}
CURVE = {"kind": "less", "metric": "train/loss", "arm": "a", "than": "b", "by": 0.5, "over": "curve"}
ACC = {"kind": "less", "metric": "test/acc", "arm": "a", "than": "b", "by": 0.05}

LOW = [0.020, 0.021, 0.019, 0.022, 0.018]
HIGH = [0.101, 0.099, 0.102, 0.098, 0.100]
WIDE = [0.02, 0.19, 0.01, 0.12, 0.16]  # mean 0.1, bounds 0.03 to 0.17
NAN = math.nan
# what the card says, the values of a and of b, and the verdict
CASES: dict[str, tuple[Mapping[str, Any], Sequence[Any], Sequence[Any], str]] = {
    "a clear gap": (LESS, LOW, HIGH, "CONFIRMED"),
    "the gap the other way": (LESS, HIGH, LOW, "REFUTED"),
    "a gap, but below the margin": ({**LESS, "by": 0.09}, LOW, HIGH, "REFUTED"),
    "a gap that the seeds leave open": (LESS, LOW, WIDE, "INCONCLUSIVE"),
    "a mean above the margin, its bound not": ({**LESS, "by": 0.07}, LOW, WIDE, "INCONCLUSIVE"),
    "a mean below the margin, its bound not": ({**LESS, "by": 0.1}, LOW, WIDE, "INCONCLUSIVE"),
    "one seed alone": (LESS, LOW[:1], HIGH[:1], "INCONCLUSIVE"),
    "no spread, at the margin": ({**LESS, "by": 0.5}, [0.0] * 5, [0.5] * 5, "CONFIRMED"),
    "no spread, below the margin": ({**LESS, "by": 0.6}, [0.0] * 5, [0.5] * 5, "REFUTED"),
    "NaN where it should be good": (LESS, [*LOW[:4], NAN], HIGH, "REFUTED"),
    "null where it should be good": (LESS, [*LOW[:4], None], HIGH, "REFUTED"),
    "divergence where it should be good": (LESS, [*LOW[:4], "diverged"], HIGH, "REFUTED"),
    "divergence where it should be worse": (LESS, LOW, [*HIGH[:4], "diverged"], "CONFIRMED"),
    "all diverged where it should be worse": (LESS, LOW, ["diverged"] * 5, "CONFIRMED"),
    "four of five diverged where it should be worse": (LESS, LOW, [0.1, *["diverged"] * 4], "CONFIRMED"),
    "both diverged": (LESS, ["diverged"] * 5, ["diverged"] * 5, "REFUTED"),
    "accuracy: the arm that should be worse failed": (ACC, [NAN, 0.1, 0.11, 0.12, 0.1], [0.9] * 5, "CONFIRMED"),
    "accuracy: the arm that should be better failed": (ACC, [0.1] * 5, [NAN, 0.9, 0.91, 0.9, 0.9], "REFUTED"),
    "distance: the arm that should be worse failed": (
        {**LESS, "metric": "test/fid_lenet"},
        LOW,
        [NAN, *HIGH[1:]],
        "CONFIRMED",
    ),
    "alike at the margin, without spread": ({**ALIKE, "by": 0.5}, [0.5] * 5, [0.0] * 5, "CONFIRMED"),
    "a metric of no known direction failed": ({**LESS, "metric": "probe/x"}, LOW, [NAN, *HIGH[1:]], "REFUTED"),
    "well below": (AT_MOST, LOW, HIGH, "CONFIRMED"),
    "well above": (AT_MOST, HIGH, HIGH, "REFUTED"),
    "mean below, bound above": ({**AT_MOST, "value": 0.12}, WIDE, HIGH, "INCONCLUSIVE"),
    "at most, with a failed seed": (AT_MOST, [*LOW[:4], NAN], HIGH, "REFUTED"),
    "not too good to be true": (AT_LEAST, LOW, HIGH, "CONFIRMED"),
    "too good to be true": (AT_LEAST, [0.001, 0.002, 0.001, 0.002, 0.001], HIGH, "REFUTED"),
    "mean above, bound below": ({**AT_LEAST, "value": 0.08}, WIDE, HIGH, "INCONCLUSIVE"),
    "at least, with a failed seed": (AT_LEAST, ["diverged", *LOW[1:]], HIGH, "REFUTED"),
    "alike": (ALIKE, LOW, [x + 0.001 for x in LOW], "CONFIRMED"),
    "alike, a little above": (ALIKE, [x + 0.004 for x in LOW], LOW, "CONFIRMED"),
    "different": (ALIKE, HIGH, LOW, "REFUTED"),
    "different, below": (ALIKE, LOW, HIGH, "REFUTED"),
    "the same mean, too wide to tell": (ALIKE, WIDE, [0.1] * 5, "INCONCLUSIVE"),
    "alike only when paired": (ALIKE, [0.1, 0.9, 0.5, 0.3, 0.7], [0.101, 0.902, 0.499, 0.3, 0.7], "CONFIRMED"),
    "alike, with a failed seed": (ALIKE, [*LOW[:4], NAN], LOW, "REFUTED"),
    "four of five": (COUNT, [*LOW[:4], 0.5], HIGH, "CONFIRMED"),
    "three of five": (COUNT, [*LOW[:3], 0.5, NAN], HIGH, "REFUTED"),
    "exact": (EXACT, [0.02] * 5, HIGH, "CONFIRMED"),
    "exact but in one seed": (EXACT, [0.02] * 4 + [0.0200001], HIGH, "REFUTED"),
    "exact but for one that diverged": (EXACT, [0.02] * 4 + ["diverged"], HIGH, "REFUTED"),
}  # fmt: skip

Cases = Iterator[tuple[str, str, str]]  # name, the verdict that there should be, the one that there is


def cases(module: Any) -> Cases:
    """Every case, put to a judge."""
    for name, (rule, a, b, expected) in CASES.items():
        arms = {"a": runs(a, rule["metric"]), "b": runs(b, rule["metric"])}
        yield name, expected, verdict(module, stated(rule, seeds=len(a)), arms)
    good, bad = runs(LOW), runs(HIGH)
    arms = {"a": good, "b": bad}
    yield "all rules must hold", "REFUTED", verdict(module, stated(LESS, {**AT_MOST, "value": 0.001}), arms)
    yield "one rule is open", "INCONCLUSIVE", verdict(module, stated(ALIKE, AT_LEAST), {"a": good, "b": runs(WIDE)})
    yield (
        "seeds in another order",
        "CONFIRMED",
        verdict(
            module,
            stated({**ALIKE, "by": 0.02}),
            {"a": runs([0.1, 0.9, 0.5, 0.3, 0.7])[::-1], "b": runs([0.1, 0.9, 0.5, 0.31, 0.7])},
        ),
    )
    yield "a seed is missing", "ERROR", verdict(module, stated(LESS), {"a": good[:4], "b": bad[:4]})
    yield "a seed is missing in one arm", "ERROR", verdict(module, stated(LESS), {"a": good[:4], "b": bad})
    yield "a seed twice", "ERROR", verdict(module, stated(LESS), {"a": [*good[:4], good[0]], "b": bad})
    yield "an arm is missing", "ERROR", verdict(module, stated(AT_MOST), {"a": good})
    yield "a metric is missing", "ERROR", verdict(module, stated({**LESS, "metric": "test/loss"}), arms)
    leaked = stated(LESS, calibration={"seeds": [3, 100], "commit": None})
    yield "a calibration seed is judged", "ERROR", verdict(module, leaked, arms)
    yield "no finding", "ERROR", module.together([])
    yield "no rule", "ERROR", verdict(module, stated(), arms)
    yield "test items", "CONFIRMED", verdict(module, stated(ITEMS), with_items("ffe", "001"))
    yield "test items, the other way", "REFUTED", verdict(module, stated(ITEMS), with_items("001", "ffe"))
    yield "test items, too few", "INCONCLUSIVE", verdict(module, stated(ITEMS), with_items("f00", "100"))
    yield "curves", "CONFIRMED", verdict(module, stated(CURVE), with_curves(0.2, 1.0))
    yield "curves, the other way", "REFUTED", verdict(module, stated(CURVE), with_curves(1.0, 0.2))
    yield "a broken arm that passes", "CONFIRMED, broken CONFIRMED", sabotage(module, good)
    yield "a broken arm that fails", "CONFIRMED, broken REFUTED", sabotage(module, bad)
    both = stated(LESS, sabotage={"a": {"overrides": ["x=1"]}, "b": {"overrides": ["x=1"]}})
    one_passes = module.judge(both, {"a": good, "b": bad}, {"a": bad, "b": bad}, "cpu")
    yield "one of two broken arms passes", "CONFIRMED", one_passes.sabotage
    yield (
        "test items of a diverged run",
        "REFUTED",
        verdict(
            module,
            stated(ITEMS),
            {"a": [{**run, "status": "diverged"} for run in good], "b": with_items("f00", "100")["b"]},
        ),
    )
    yield "a broken arm that was not run", "CONFIRMED, broken ERROR", sabotage(module, None)


def with_items(first: str, second: str) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [{**run, "right": f"12:{right}"} for run in runs(LOW)] for name, right in (("a", first), ("b", second))
    }


def with_curves(first: float, second: float) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [
            {**run, "curves": {"train/loss": [[step, height + 0.01 * run["seed"] * step] for step in range(4)]}}
            for run in runs(LOW, "train/loss")
        ]
        for name, height in (("a", first), ("b", second))
    }


def verdict(module: Any, content: Mapping[str, Any], arms: Mapping[str, Any]) -> str:
    return str(module.judge(content, arms, {"a": arms["a"]}, "cpu").verdict)


def sabotage(module: Any, broken: Any) -> str:
    found = module.judge(
        stated(LESS), {"a": runs(LOW), "b": runs(HIGH)}, {} if broken is None else {"a": broken}, "cpu"
    )
    return f"{found.verdict}, broken {found.sabotage}"


@pytest.mark.parametrize(("name", "expected", "found"), list(cases(judge)), ids=str)
def test_verdict(name: str, expected: str, found: str) -> None:
    assert found == expected, name


def test_two_metrics_of_one_arm() -> None:
    rule = {"kind": "less", "metric": "probe/error/2", "arm": "a", "than_metric": "probe/error/1", "by": 0.05}
    layers = [{"seed": s, "status": "finished", "metrics": {"probe/error/1": 0.2, "probe/error/2": v}} for s, v in enumerate(LOW)]  # fmt: skip
    assert judge.judge(stated(rule), {"a": layers, "b": layers}, {"a": layers}, "cpu").verdict == "CONFIRMED"


def test_a_departure_is_said_in_the_verdict() -> None:
    arms = {"a": runs(LOW), "b": runs(HIGH)}
    for departs, words in ((None, "CONFIRMED"), ("shorter", "CONFIRMED AT REDUCED SCALE")):
        assert judge.judge(stated(LESS, departs=departs), arms, {"a": arms["b"]}, "cpu").words == words
    assert judge.judge(stated(LESS, departs="shorter"), {**arms, "a": arms["b"]}, {}, "cpu").words == "REFUTED"


# ---- the judge, broken ------------------------------------------------------------------------------------------

SOURCES = {"judge": judge, "statistics": statistics, "card": card}
MUTATIONS = yaml.safe_load((Path(__file__).parent / "mutations.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_broken_judge_is_noticed(name: str) -> None:
    mutation = MUTATIONS[name]
    noticed = unlike(mutated(mutation["in"], mutation["old"], mutation["new"]))
    assert noticed, "every case has its verdict from a broken judge too"


def test_the_whole_judge_is_not_taken_for_a_broken_one() -> None:
    assert not unlike(mutated("judge", "gaps", "gaps"))


def unlike(module: Any) -> list[str]:
    """The cases in which a judge is wrong, or cannot judge."""
    found: list[str] = []
    try:
        for name, expected, verdict in cases(module):
            found += [name] if verdict != expected else []
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


def mutated(which: str, old: str, new: str) -> Any:
    """A judge with one of its parts changed."""
    sources = {name: Path(str(module.__file__)).read_text(encoding="utf-8") for name, module in SOURCES.items()}
    assert sources[which].count(old) >= 1, "the text is not there any more"
    text = sources[which].replace(old, new, 1)
    if which == "card":
        text = text.replace('& {*calibration["seeds"]}):', '& {*calibration["seeds"]})):', 1)
    part = types.ModuleType(which)
    part.__dict__.update({"__name__": f"mutated_{which}"})
    sys.modules[part.__name__] = part  # dataclasses look their module up
    exec(compile(text, which, "exec"), part.__dict__)
    if which == "judge":
        return part
    whole = types.ModuleType("mutated_judge")
    sys.modules["mutated_judge"] = whole
    exec(compile(sources["judge"], "judge", "exec"), whole.__dict__)
    whole.__dict__[which] = part
    if which == "statistics":
        whole.__dict__["Bounds"] = part.__dict__["Bounds"]
    return whole


# ---- cards ------------------------------------------------------------------------------------------------------


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.pop(key)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no source": (without("source"), "no source"),
    "an empty source": (lambda c: c.update(source=" "), "no source"),
    "no rule": (lambda c: c.update(rule=[]), "no rule"),
    "no seeds": (lambda c: c.update(seeds=[]), "no seeds"),
    "no sabotage": (without("sabotage"), "no sabotage: a check that cannot be seen to fail proves nothing"),
    "a sabotage that changes nothing": (lambda c: c.update(sabotage={"a": {"overrides": []}}), "sabotage.a: changes nothing"),
    "a sabotage of no arm": (lambda c: c.update(sabotage={"c": {"overrides": ["x=1"]}}), "sabotage.c: there is no such arm; there are a, b"),
    "calibration seeds that overlap": (lambda c: c["calibration"].update(seeds=[4, 100]), "calibration: seed 4 is judged too (seeds); the rule has seen it"),
    "those of a tier": (lambda c: c["tiers"]["cpu"].update(seeds=[100]), "calibration: seed 100 is judged too (tiers.cpu.seeds); the rule has seen it"),
    "an unknown arm in a rule": (lambda c: c["rule"][0].update(than="c"), "rule 1: than: there is no arm c; there are a, b"),
    "an unknown kind": (lambda c: c["rule"][0].update(kind="more"), "rule 1: kind must be one of less, at_most, at_least, equivalent, count, identity"),
    "a rule without its margin": (lambda c: c["rule"][0].pop("by"), "rule 1: less needs by"),
    "a margin that is no number": (lambda c: c["rule"][0].update(by="big"), "rule 1: by: must be a number"),
    "an unknown key": (lambda c: c.update(sourse="x"), "sourse: a card has no such key; did you mean source?"),
    "nothing said of departures": (without("departs"), "departs: say what is other or smaller than in the source, or null"),
    "a tier that is none": (lambda c: c["tiers"].update(gpu={"overrides": []}), "tiers.gpu: there is no such tier; did you mean cpu?"),
    "a cost that is not stated": (lambda c: c["tiers"]["cpu"].pop("minutes"), "tiers.cpu: say by minutes what it costs"),
    "the same seed twice": (lambda c: c.update(seeds=[1, 1]), "seeds: must be different whole numbers"),
    "more seeds needed than there are": (lambda c: c.update(rule=[{**COUNT, "k": 9}]), "rule 1: k: must be from 1 to the number of seeds, 5"),
    "no seed needed": (lambda c: c.update(rule=[{**COUNT, "k": 0}]), "rule 1: k: must be from 1 to the number of seeds, 5"),
    "a margin that is not finite": (lambda c: c["rule"][0].update(by=math.nan), "rule 1: by: must be a number"),
    "a negative margin of equivalence": (lambda c: c.update(rule=[{**ALIKE, "by": -0.1}]), "rule 1: by: must be above 0"),
    "an article that YAML took for a number": (lambda c: c.update(article=1.1), 'article: write "1.1"'),
    "an experiment that is not there": (lambda c: c["arms"]["a"].update(experiment="lenet5_mnits"), "arms.a: there is no experiment lenet5_mnits; did you mean lenet5_mnist"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_card_is_told(name: str) -> None:
    spoil, line = WRONG[name]
    content = stated(dict(LESS))
    assert not list(card.mistakes(content, card.experiments()))
    spoil(content)
    assert any(each.startswith(line) for each in card.mistakes(content, card.experiments())), list(
        card.mistakes(content)
    )


@pytest.mark.parametrize("key", [*card.KEYS, "figure"])
@pytest.mark.parametrize("value", [5, 0.5, "x", [], [1], {}, {"a": 1}, {1: {}}, None, True])
def test_a_card_with_anything_anywhere_is_told_and_never_raises(key: str, value: Any) -> None:
    list(card.mistakes({**stated(dict(LESS)), key: value}, card.experiments()))
    arms = {"a": runs(LOW), "b": runs(HIGH)}
    judge.judge({**stated(dict(LESS)), key: value}, arms, {"a": arms["b"]}, "cpu")


@pytest.mark.parametrize("key", ["kind", "metric", "arm", "than", "by", "over"])
@pytest.mark.parametrize("value", [5, "x", [], {"a": 1}, None, math.nan])
def test_a_rule_with_anything_in_it_is_told_and_never_raises(key: str, value: Any) -> None:
    assert (
        key == "over"
        or list(card.mistakes(stated({**LESS, key: value})))
        or (key, value) in (("metric", "x"), ("by", 5))
    )


def test_all_mistakes_of_a_card_are_told_at_once() -> None:
    content = deepcopy(stated(dict(LESS)))
    for key in ("source", "sabotage", "rule", "seeds"):
        content.pop(key)
    assert len(list(card.mistakes(content))) >= 4


def test_the_committed_table_names_every_mutation() -> None:
    page = (Path(__file__).parents[1] / "docs" / "mutations.md").read_text(encoding="utf-8")
    assert [name for name in MUTATIONS if f"| {name} |" not in page] == [], "run: python benchmarks/mutations.py"
    assert f"{len(MUTATIONS)} mutations" in page
