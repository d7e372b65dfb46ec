"""From stored values to a verdict. No torch, no training: whoever has the JSON can judge again.

A rule is decided on one-sided 95 % bounds over the seeds: CONFIRMED when the bound clears the margin, REFUTED when the
opposite bound misses it, else INCONCLUSIVE. All rules must hold; one refuted refutes. With `d` the paired differences:

    less        metric of `arm` below that of `than` by `by`   d = than - arm  low(d) >= by
    at_most     metric of `arm` at most `value`                                high <= value
    at_least    metric of `arm` at least `value`                               low >= value
    equivalent  within `by` of `than`, or of `value`           d = arm - than  -by <= low(d), high(d) <= by
    count       at least `k` seeds with the metric `at_least`, or `at_most`, a value
    identity    every seed's metric equals `value`, to within `tolerance` (0)

`equivalent` is two one-sided tests (Schuirmann 1987). `less` may be asked `over: curve` (the mean height of a logged
curve, by the bootstrap) or `over: items` (McNemar on the items of the test set: a statement about these nets, since
items share the luck of their seeds) instead of over seeds; and `than_metric` compares two metrics.

A seed that diverged, or whose metric is not a number, is a failure of its arm. Where the metric says what worse is
(loss, error, ... or acc, f1, ...), it is worst there: against the claim it refutes, and for it the seed counts as won
and the others are judged. Where the metric does not say, it refutes.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dl_zoo.claims import card, statistics
from dl_zoo.claims.statistics import Bounds

Verdict = Literal["CONFIRMED", "REFUTED", "INCONCLUSIVE", "ERROR"]
Runs = Sequence[Mapping[str, Any]]  # one arm: {seed, status, metrics[, curves, right]} a seed
LESS_IS_BETTER = {"loss", "error", "ppl", "mse", "mae", "bpc", "nll", "fid"}
MORE_IS_BETTER = {"acc", "top5", "f1", "bleu", "elbo", "auroc"}


class Unjudgeable(Exception):
    """The values do not answer the card's question: a seed or a metric is missing, or a rule is not sound."""


@dataclass(frozen=True)
class Finding:
    """One rule's verdict, with what was measured in words."""

    verdict: Verdict
    words: str


@dataclass(frozen=True)
class Judgement:
    """Of a whole result: the claim's verdict, and that of the sabotaged arms, which must be REFUTED."""

    verdict: Verdict
    findings: list[Finding]
    sabotage: Verdict
    broken: dict[str, list[Finding]]  # by broken arm, each judged by itself
    departs: str | None = None

    @property
    def words(self) -> str:
        """What the tables say."""
        return "CONFIRMED AT REDUCED SCALE" if self.verdict == "CONFIRMED" and self.departs else self.verdict

    @property
    def proves_itself(self) -> bool:
        """Has the check been seen to fail?"""
        return self.sabotage == "REFUTED"


def judge(content: Mapping[str, Any], arms: Mapping[str, Runs], sabotage: Mapping[str, Runs], tier: str) -> Judgement:
    """The verdict on a card's `content` from its arms' runs; and that on the sabotage, each broken arm by itself.

    Whatever makes a verdict impossible is ERROR: a card that is not sound, a seed or a metric that is missing.
    """
    wrong = list(card.mistakes(content))
    if wrong:
        return Judgement("ERROR", [Finding("ERROR", line) for line in wrong], "ERROR", {})
    sound = card.Card("", content)
    seeds = sound.seeds(tier) if tier in content["tiers"] else []
    findings = findings_of(content, arms, seeds)
    broken = {name: findings_of(content, {**arms, name: runs}, seeds) for name, runs in sabotage.items()}
    complete = broken.keys() == content["sabotage"].keys()
    passed = [verdict for each in broken.values() if (verdict := together(each)) != "REFUTED"]
    return Judgement(
        together(findings),
        findings,
        "ERROR" if not complete else passed[0] if passed else "REFUTED",
        broken,
        sound.departs(tier),
    )


def findings_of(content: Mapping[str, Any], arms: Mapping[str, Runs], seeds: Sequence[int]) -> list[Finding]:
    """A finding a rule; or one, ERROR, on what makes judging impossible."""
    try:
        if arms.keys() != content["arms"].keys():
            raise Unjudgeable(f"arms are {', '.join(arms)}, not {', '.join(content['arms'])}")
        paired = {name: in_order(name, runs, seeds) for name, runs in arms.items()}
        return [KINDS[rule["kind"]](rule, paired) for rule in content["rule"]]
    except Unjudgeable as error:
        return [Finding("ERROR", str(error))]


def together(findings: Sequence[Finding]) -> Verdict:
    """All must hold; no finding is no proof."""
    verdicts = {finding.verdict for finding in findings}
    order: tuple[Verdict, ...] = ("ERROR", "REFUTED", "INCONCLUSIVE")
    for verdict in order:
        if verdict in verdicts:
            return verdict
    return "CONFIRMED" if verdicts else "ERROR"


def in_order(name: str, runs: Runs, seeds: Sequence[int]) -> Runs:
    """An arm's runs in the order of the card's seeds: each once, none more."""
    found = [run["seed"] for run in runs]
    if sorted(found) != sorted(seeds) or not seeds:
        raise Unjudgeable(f"arm {name} has seeds {found}, the card says {list(seeds)}")
    by_seed = {run["seed"]: run for run in runs}
    return [by_seed[seed] for seed in seeds]


# ---- values -------------------------------------------------------------------------------------------------------


def value_of(run: Mapping[str, Any], metric: str) -> float:
    """One seed's number; nan for a run that did not finish. `diverged` is 0 or 1 in every run."""
    if metric == "diverged":
        return float(run["status"] == "diverged")
    if run["status"] != "finished":
        return math.nan
    if metric not in run["metrics"]:
        raise Unjudgeable(f"seed {run['seed']} has no metric {metric}")
    value = run["metrics"][metric]
    return math.nan if value is None else float(value)


def values(arms: Mapping[str, Runs], arm: str, metric: str) -> list[float]:
    return [value_of(run, metric) for run in arms[arm]]


def worst(metric: str) -> float:
    """What a failed seed counts as; nan where the name does not say which way is worse."""
    words = set(re.split(r"[/_]", metric))
    return math.inf if words & LESS_IS_BETTER else -math.inf if words & MORE_IS_BETTER else math.nan


def finite_or_worst(numbers: Sequence[float], metric: str) -> list[float]:
    return [number if math.isfinite(number) else worst(metric) for number in numbers]


# ---- rules --------------------------------------------------------------------------------------------------------


def less(rule: Mapping[str, Any], arms: Mapping[str, Runs]) -> Finding:
    if rule.get("over") == "items":
        return less_over_items(rule, arms)
    if rule.get("over") == "curve":
        return less_over_curve(rule, arms)
    metric, other = rule["metric"], rule.get("than_metric", rule["metric"])
    low_side = finite_or_worst(values(arms, rule["arm"], metric), metric)
    high_side = finite_or_worst(values(arms, rule.get("than", rule["arm"]), other), other)
    gaps = [b - a for a, b in zip(low_side, high_side, strict=True)]
    what = f"{metric}: {rule['arm']} below {rule.get('than', other)}"
    if any(not math.isfinite(gap) and gap != math.inf for gap in gaps):
        return Finding("REFUTED", f"{what}: an arm failed that should not")
    left = [gap for gap in gaps if math.isfinite(gap)]
    lost = len(gaps) - len(left)
    won = f"; in {lost} of {len(gaps)} seeds the arm that should be worse failed" if lost else ""
    if not left or (len(left) == 1 < len(gaps) and left[0] >= rule["by"]):
        return Finding("CONFIRMED", f"{what}{won}")
    return above(statistics.t_bounds(left), f"{what} by", rule["by"], "margin", won)


def less_over_curve(rule: Mapping[str, Any], arms: Mapping[str, Runs]) -> Finding:
    metric, first, second = rule["metric"], arms[rule["arm"]], arms[rule["than"]]
    what = f"curve of {metric}: {rule['arm']} below {rule['than']}"
    if any(run["status"] != "finished" for run in (*first, *second)):
        return Finding("REFUTED", f"{what}: a run did not finish")
    gaps = [
        [b - a for a, b in zip(*on_common_steps(one, other, metric), strict=True)]
        for one, other in zip(first, second, strict=True)
    ]
    return above(statistics.bootstrap_bounds(gaps), f"{what} by", rule["by"], "margin")


def on_common_steps(one: Mapping[str, Any], other: Mapping[str, Any], tag: str) -> tuple[list[float], list[float]]:
    """Two runs' values of a curve at the steps that both have."""
    a, b = (
        {step: height for step, height in run.get("curves", {}).get(tag, []) if height is not None}
        for run in (one, other)
    )
    steps = sorted(a.keys() & b.keys())
    if not steps:
        raise Unjudgeable(f"seed {one['seed']}: no curve {tag} in both arms")
    return [a[step] for step in steps], [b[step] for step in steps]


def less_over_items(rule: Mapping[str, Any], arms: Mapping[str, Runs]) -> Finding:
    if any(run["status"] != "finished" for key in ("arm", "than") for run in arms[rule[key]]):
        return Finding("REFUTED", f"test items of {rule['arm']} and {rule['than']}: a run did not finish")
    rows = [[bits(run) for run in arms[rule[key]]] for key in ("arm", "than")]
    if len({len(row) for arm in rows for row in arm}) != 1:
        raise Unjudgeable("test items: the arms were not tested on the same ones")
    found = statistics.mcnemar(*rows)
    verdict: Verdict = "INCONCLUSIVE"
    if found.first_is_better < 1 - statistics.LEVEL:
        verdict = "CONFIRMED"
    elif found.second_is_better < 1 - statistics.LEVEL:
        verdict = "REFUTED"
    return Finding(
        verdict,
        f"test items right more often in {rule['arm']} {found.only_first}, in {rule['than']} {found.only_second}"
        f" (McNemar, p = {found.first_is_better:.2g})",
    )


def bits(run: Mapping[str, Any]) -> list[bool]:
    """Which test items a run got right: hexadecimal digits, four items each, the first item highest."""
    if not run.get("right"):
        raise Unjudgeable(f"seed {run['seed']} does not say which test items it got right")
    count, digits = run["right"].split(":")
    return [bit == "1" for digit in digits for bit in f"{int(digit, 16):04b}"][: int(count)]


def at_most(rule: Mapping[str, Any], arms: Mapping[str, Runs]) -> Finding:
    found = values(arms, rule["arm"], rule["metric"])
    what = f"{rule['metric']} of {rule['arm']}"
    if not all(map(math.isfinite, found)):
        return Finding("REFUTED", f"{what}: a seed failed")
    mean, low, high = statistics.t_bounds(found)
    verdict: Verdict = "CONFIRMED" if high <= rule["value"] else "REFUTED" if low > rule["value"] else "INCONCLUSIVE"
    return Finding(verdict, f"{what} {spelled(Bounds(mean, low, high))}, at most {rule['value']:g}")


def at_least(rule: Mapping[str, Any], arms: Mapping[str, Runs]) -> Finding:
    found = values(arms, rule["arm"], rule["metric"])
    what = f"{rule['metric']} of {rule['arm']}"
    if not all(map(math.isfinite, found)):
        return Finding("REFUTED", f"{what}: a seed failed")
    return above(statistics.t_bounds(found), what, rule["value"], "at least")


def equivalent(rule: Mapping[str, Any], arms: Mapping[str, Runs]) -> Finding:
    metric = rule["metric"]
    first = values(arms, rule["arm"], metric)
    if "than" in rule:
        second, other = values(arms, rule["than"], rule.get("than_metric", metric)), rule["than"]
    else:
        second, other = [float(rule["value"])] * len(first), f"{rule['value']:g}"
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    what = f"{metric}: {rule['arm']} minus {other}"
    if not all(map(math.isfinite, gaps)):
        return Finding("REFUTED", f"{what}: a seed failed")
    bounds, by = statistics.t_bounds(gaps), rule["by"]
    verdict: Verdict = "INCONCLUSIVE"
    if -by <= bounds.low and bounds.high <= by:
        verdict = "CONFIRMED"
    elif bounds.low > by or bounds.high < -by:
        verdict = "REFUTED"
    return Finding(verdict, f"{what} {spelled(bounds)}, within {by:g} of 0")


def count(rule: Mapping[str, Any], arms: Mapping[str, Runs]) -> Finding:
    found = values(arms, rule["arm"], rule["metric"])
    side = "at_least" if "at_least" in rule else "at_most"
    bound = rule[side]
    wins = sum(value >= bound if side == "at_least" else value <= bound for value in found)
    words = f"{rule['metric']} of {rule['arm']} {side.replace('_', ' ')} {bound:g} in {wins} of {len(found)} seeds"
    return Finding("CONFIRMED" if wins >= rule["k"] else "REFUTED", f"{words}, {rule['k']} needed")


def identity(rule: Mapping[str, Any], arms: Mapping[str, Runs]) -> Finding:
    found = values(arms, rule["arm"], rule["metric"])
    tolerance = rule.get("tolerance", 0)
    equal = all(math.isfinite(value) and abs(value - rule["value"]) <= tolerance for value in found)
    off = max((abs(value - rule["value"]) for value in found), default=math.nan)
    what = f"{rule['metric']} of {rule['arm']}"
    value = f"{rule['value']:,}"
    if equal:
        return Finding("CONFIRMED", f"{what} is {value}{f' to within {tolerance:g}' if tolerance else ''}")
    return Finding("REFUTED", f"{what} should be {value} and is off by {off:.3g}")


KINDS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Runs]], Finding]] = {
    "less": less,
    "at_most": at_most,
    "at_least": at_least,
    "equivalent": equivalent,
    "count": count,
    "identity": identity,
}


def above(bounds: Bounds, what: str, margin: float, called: str, more: str = "") -> Finding:
    """Is the mean at least the margin?"""
    verdict: Verdict = "INCONCLUSIVE"
    if bounds.low >= margin:
        verdict = "CONFIRMED"
    elif bounds.high < margin:
        verdict = "REFUTED"
    return Finding(verdict, f"{what} {spelled(bounds)}, {called} {margin:g}{more}")


def spelled(bounds: Bounds) -> str:
    """
    >>> spelled(Bounds(0.0612, 0.0581, 0.0643)), spelled(Bounds(1.0, 1.0, 1.0))
    ('0.0612 (0.0581 to 0.0643)', '1')
    """
    mean, low, high = bounds
    if math.isnan(low):
        return f"{mean:.4g} (one seed)"
    return f"{mean:.4g}" if low == high else f"{mean:.4g} ({low:.4g} to {high:.4g})"
