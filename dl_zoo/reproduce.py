"""Run a claim: every arm, seed and sabotage that is not done yet, then the verdict, its JSON and its picture.

Each run is an ordinary run of `run`, in `runs/claims/<id>.<tier>/<arm>/seed<n>/`; that folder is what TensorBoard opens
to see the arms side by side. A finished one leaves `record.json`, with the hashes of what made it: while these are the
same it is not run again, and after a kill it goes on where it was. A run of other code or configuration is set aside.
"""

import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dl_zoo import compose, folder, records
from dl_zoo.claims import provenance, result
from dl_zoo.claims.card import JUDGED, Card, asked_by
from dl_zoo.errors import UserError
from dl_zoo.folder import MAY_DIFFER

ROOT = folder.RUNS / "claims"
AS_ONE_LIKES = (
    "data_dir",
    "checkpoint_every",
    "diagnostics",
)  # what a person may add: nothing that makes other numbers


class Interrupted(Exception):
    """The run in progress has saved and stopped. `signal` says by what."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signal = number


@dataclass(frozen=True)
class Arm:
    """One arm, whole or broken, at one tier: what its runs have in common, and what they come from."""

    name: str
    broken: bool
    cfg: DictConfig
    origin: Mapping[str, Any]  # overrides, hashes, targets, choices: as it stands in a result
    start: "Arm | None" = None  # whose run of the same seed gives the first weights
    start_key: str = "weights"  # or what else it gives

    @property
    def title(self) -> str:
        return f"sabotage-{self.name}" if self.broken else self.name

    @property
    def made_by(self) -> dict[str, Any]:
        """What a run must have been made by to be one of this arm's."""
        hashes = {key: self.origin[key] for key in ("config_hash", "code_hash")}
        start = {} if self.start is None else {"from": self.start.made_by}
        return {**hashes, **start, "torch": provenance.torch_minor(), "accelerator": self.cfg.trainer.accelerator}


@dataclass(frozen=True)
class Plan:
    """What a claim needs at one tier, and what of it is there."""

    card: Card
    tier: str
    arms: list[Arm]
    seeds: list[int]
    config_dirs: list[str]
    shelf: str = ""  # added to the name of the folder

    @property
    def command(self) -> str:
        words = ["dl-zoo", "reproduce", f"claim={self.card.id}", f"tier={self.tier}"]
        return shlex.join([*words, *(word for each in self.config_dirs for word in ("--config-dir", each))])

    @property
    def root(self) -> Path:
        return ROOT / f"{self.card.id}.{self.tier}{self.shelf}"

    def folder(self, arm: Arm, seed: int) -> Path:
        return self.root / arm.title / f"seed{seed}"

    def is_done(self, arm: Arm, seed: int) -> bool:
        record = records.read(self.folder(arm, seed))
        return records.comes_from(record, arm.made_by) and record["status"] in records.ENDED

    def left(self) -> list[tuple[Arm, int]]:
        """Seed after seed, so that a machine that grows slower does so for all arms alike."""
        return [(arm, seed) for seed in self.seeds for arm in self.arms if not self.is_done(arm, seed)]

    def seconds_left(self) -> float:
        return sum(self.seconds_of(arm) for arm, _ in self.left())

    def seconds_of(self, arm: Arm) -> float:
        """What one run of an arm is expected to take: as it took before, else as the card says."""
        part = "sabotage" if arm.broken else "arms"
        try:
            runs = result.read(result.path_of(self.card.id, self.tier))[part][arm.name]["runs"]
            return float(sum(run["seconds"] for run in runs) / len(runs))
        except (UserError, KeyError, ZeroDivisionError):
            minutes = self.card.content["tiers"][self.tier].get("minutes", 0.0)
            return float(60 * minutes / (len(self.arms) * len(self.seeds)))


def plan(card: Card, tier: str, own: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> Plan:
    """Compose every arm.

    Raises:
        UserError: a tier that the card does not have, words that would change the claim, arms that do not compose.
    """
    if tier not in card.content["tiers"]:
        raise UserError(f"tier={tier}: {card.id} has the tiers {', '.join(card.content['tiers'])}")
    for word in own:
        key = re.split(r"[=@]", word.lstrip("+~"))[0]
        if key not in AS_ONE_LIKES and not (key == "logger" and tier == "smoke"):
            raise UserError(f"{word}: would be another claim; what may be chosen here is {', '.join(AS_ONE_LIKES)}")
    whole = {name: _arm(card, name, tier, own, config_dirs, broken=False) for name in card.content["arms"]}
    broken = {name: _arm(card, name, tier, own, config_dirs, broken=True) for name in card.content["sabotage"]}
    arms = [
        replace(
            arm,
            start=whole.get(card.start(arm.name, arm.broken) or ""),
            start_key=card.start_key(arm.name, arm.broken),
        )
        for arm in [*whole.values(), *broken.values()]
    ]
    for key in card.content.get("folds", {}) if tier in JUDGED else ():
        if without := [arm.title for arm in arms if not _has(arm.cfg, key)]:
            raise UserError(f"claim={card.id}: folds: {without[0]} has no {key}")
    for arm in arms:
        if arm.start is not None and not _has(arm.cfg, arm.start_key):
            raise UserError(f"claim={card.id}: from: {arm.title} has no {arm.start_key}")
    arms.sort(key=lambda arm: arm.start is not None)  # what others start from comes first
    seeds = card.seeds(tier)
    return Plan(card, tier, arms, seeds[:1] if tier == "smoke" else seeds, list(config_dirs))


def _arm(card: Card, name: str, tier: str, own: Sequence[str], config_dirs: Sequence[str], *, broken: bool) -> Arm:
    words = card.overrides(name, tier, broken)
    device = "cuda" if tier == "cuda" else "cpu"
    usual = [f"trainer.accelerator={device}", "pictures=false", f"tier={tier}", f"name={card.id}"]
    composed = compose.inspect([*words, *usual, *own], config_dirs)
    if composed.mistakes:
        what = f"sabotage of {name}" if broken else f"arm {name}"
        raise UserError(*(f"claim={card.id}, {what}: {line}" for line in composed.mistakes))
    targets = sorted(set(provenance.targets_in(OmegaConf.to_container(composed.cfg, resolve=False))))
    choices = {group: _options(option) for group, option in composed.choices.items() if "/" not in group}
    origin = {
        "overrides": words,
        "config_hash": provenance.config_hash(composed.cfg, MAY_DIFFER),
        "sources_hash": provenance.of_sources(choices),
        "code_hash": provenance.of_code(targets),
        "targets": targets,
        "choices": choices,
    }
    return Arm(name, broken, composed.cfg, origin)


def _options(option: str) -> str | list[str]:
    """Hydra tells a list of options as a text: `[l2, shift]`."""
    return re.findall(r"\w+", option) if option.startswith("[") else option


def time_in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


# ---- running ------------------------------------------------------------------------------------------------------


def carry_out(plan: Plan) -> dict[str, Any]:
    """Run what is left, then judge; write the result and return it. At tier `smoke` nothing is judged or written.

    Raises:
        Interrupted: a run was asked to stop, and has saved.
        UserError: a run could not be made, or something not be written.
    """
    content = run_all(plan)
    if plan.tier not in JUDGED:
        return content
    content = result.sealed(content)
    path = result.path_of(plan.card.id, plan.tier)
    from dl_zoo.claims import figure

    with _told_if_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.write_text(path, result.spelled(content))
        figure.draw(content, path.with_suffix(".png"))
    return content


def run_all(plan: Plan) -> dict[str, Any]:
    """Run what is left; every run's values, not judged. Raises as `carry_out` does."""
    with _told_if_unwritable(plan.root):
        plan.root.mkdir(parents=True, exist_ok=True)
        with folder.owned(plan.root):
            left = plan.left()
            expected, began = [plan.seconds_of(arm) for arm, _ in left], time.monotonic()
            for number, (arm, seed) in enumerate(left, start=1):
                words = run_one(plan, arm, seed)
                pace = (time.monotonic() - began) / max(sum(expected[:number]), 1e-9)
                seconds = pace * sum(expected[number:])
                rest = f", about {time_in_words(seconds)} left" if seconds >= 1 else ""
                print(f"  {number}/{len(left)}  {arm.title}, seed {seed}: {words}{rest}", file=sys.stderr)
            return gathered(plan)


@contextmanager
def _told_if_unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise UserError(f"{where} cannot be written: {error.strerror}; the same command goes on from here") from error


def _has(cfg: DictConfig, key: str) -> bool:
    group, _, leaf = key.rpartition(".")
    return leaf in ((OmegaConf.select(cfg, group) if group else cfg) or {})


def run_one(plan: Plan, arm: Arm, seed: int) -> str:
    """One run, from its start or from where it was stopped; what came of it in a few words."""
    from dl_zoo.run import run

    where = plan.folder(arm, seed)
    if where.is_dir() and any(where.iterdir()) and not records.comes_from(records.read(where), arm.made_by):
        records.set_aside(where, ROOT)
    record = records.begin(where, arm.made_by, plan.card)
    values: dict[str, Any] = {"seed": seed, "run_dir": str(where), "resume": "auto"}
    fold = plan.card.fold(seed)
    if plan.tier in JUDGED:
        values |= fold
    if arm.start is not None:
        source = plan.folder(arm.start, seed)
        if records.read(source).get("status") != "finished":
            records.end(where, record, "diverged", {})
            return f"not run: {arm.start.title}, whose run it starts from, diverged"
        values[arm.start_key] = str(source)
    outcome = run(compose.with_values(arm.cfg, values), quiet=True)
    record = records.end(where, record, outcome.status, outcome.metrics)
    if outcome.status == "interrupted":
        raise Interrupted(outcome.signal)
    metric = plan.card.content["rule"][0]["metric"]
    value = outcome.metrics.get(metric) if outcome.status == "finished" else None
    words = outcome.status if value is None else f"{metric} {value:.4g}"
    return f"{words}, {record['seconds']:.1f} s"


def gathered(plan: Plan) -> dict[str, Any]:
    """Every run's values, with what they all come from."""
    found = [records.read(plan.folder(arm, seed)) for arm in plan.arms for seed in plan.seeds]
    parts: dict[str, dict[str, Any]] = {"arms": {}, "sabotage": {}}
    for arm in plan.arms:
        runs = [records.values(plan.card, seed, plan.folder(arm, seed)) for seed in plan.seeds]
        parts["sabotage" if arm.broken else "arms"][arm.name] = {**arm.origin, "runs": runs}
    asserted = records.rules_of(plan.card)
    data = records.united(found, "data")
    if ", " in data:
        raise UserError(f"{plan.root}: its runs saw data of two origins ({data}); delete those of one")
    return {
        "id": plan.card.id,
        "tier": plan.tier,
        "card": dict(plan.card.content),
        "rule_is_older": all(record.get("rules") == asserted for record in found),
        **parts,
        "environment": {
            "torch": provenance.torch_minor(),
            **{key: records.united(found, key) for key in ("python", "device", "machine")},
            **({"data": data} if data else {}),
        },
        "commit": ", ".join(sorted({commit for record in found for commit in record.get("commits", [])})),
        "date": max(str(record.get("date", "")) for record in found),
        "command": plan.command,
        "seconds": round(sum(float(record["seconds"]) for record in found), 1),
    }


def without_metrics(card: Card, content: Mapping[str, Any]) -> Iterator[str]:
    """Metrics that a rule asks for and an arm, whole or broken, did not log."""
    for number, rule in enumerate(card.content["rule"], start=1):
        for arm, metric in asked_by(rule):
            for part, title in (("arms", "arm"), ("sabotage", "sabotage of")):
                for run in content[part].get(arm, {}).get("runs", []):
                    if run["status"] == "finished" and metric not in {*run["metrics"], "diverged"}:
                        yield f"claim={card.id}, rule {number}: {title} {arm} logs no {metric}"
