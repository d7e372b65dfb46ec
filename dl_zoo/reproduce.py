"""Run a claim: every arm, seed and sabotage that is not done yet, then the verdict, its JSON and its picture.

Each run is an ordinary run of `run`, in `runs/claims/<id>.<tier>/<arm>/seed<n>/`; that folder is what TensorBoard opens
to see the arms side by side. A finished one leaves `record.json`, with the hashes of what made it: while these are the
same it is not run again, and after a kill it goes on where it was. A run of other code or configuration is set aside.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dl_zoo import compose, folder
from dl_zoo.claims import provenance, result
from dl_zoo.claims.card import JUDGED, Card, asked_by
from dl_zoo.errors import UserError
from dl_zoo.folder import MAY_DIFFER

ROOT = folder.RUNS / "claims"
AS_ONE_LIKES = (*MAY_DIFFER, "checkpoint_every")  # what a person may add: where it runs, and how it is watched
POINTS = 200  # of a stored curve


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
    overrides: list[str]
    cfg: DictConfig
    provenance: Mapping[str, Any]

    @property
    def title(self) -> str:
        return f"sabotage-{self.name}" if self.broken else self.name


@dataclass
class Plan:
    """What a claim needs at one tier, and what of it is there."""

    card: Card
    tier: str
    arms: list[Arm]
    seeds: list[int]
    own: list[str] = field(default_factory=list)  # the person's words

    def jobs(self) -> Iterator[tuple[Arm, int]]:
        """Seed after seed, so that a machine that grows slower does so for all arms alike."""
        for seed in self.seeds:
            for arm in self.arms:
                yield arm, seed

    def folder(self, arm: Arm, seed: int) -> Path:
        return self.root / arm.title / f"seed{seed}"

    @property
    def root(self) -> Path:
        return ROOT / f"{self.card.id}.{self.tier}"

    def record(self, arm: Arm, seed: int) -> dict[str, Any] | None:
        """What a run that is done left, if it came of today's code and configuration."""
        found = read_json(self.folder(arm, seed) / "record.json")
        return found if found and comes_from(found, arm) and found["status"] in ("finished", "diverged") else None

    def left(self) -> list[tuple[Arm, int]]:
        return [(arm, seed) for arm, seed in self.jobs() if self.record(arm, seed) is None]

    def seconds_of(self, arm: Arm) -> float:
        """What one run of an arm is expected to take: as it took before, else as the card says."""
        before = read_json(result.path_of(self.card.id, self.tier)) or {}
        runs = before.get("sabotage" if arm.broken else "arms", {}).get(arm.name, {}).get("runs", [])
        if runs:
            return float(sum(run["seconds"] for run in runs) / len(runs))
        minutes = self.card.content["tiers"][self.tier].get("minutes", 0.0)
        return float(60 * minutes / (len(self.arms) * len(self.seeds)))


def plan(card: Card, tier: str, own: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> Plan:
    """Compose every arm.

    Raises:
        UserError: a tier that the card does not have, words that would change the claim, arms that do not compose.
    """
    if tier not in card.content["tiers"]:
        there = ", ".join(card.content["tiers"])
        raise UserError(f"tier={tier}: {card.id} has the tiers {there}")
    for word in own:
        key = re.split(r"[=@]", word.lstrip("+~"))[0]
        if not any(key == free or key.startswith(f"{free}.") for free in AS_ONE_LIKES):
            raise UserError(f"{word}: would be another claim; only where and how it is watched may be chosen here")
    arms = [_arm(card, name, tier, own, config_dirs, broken=False) for name in card.content["arms"]]
    arms += [_arm(card, name, tier, own, config_dirs, broken=True) for name in card.content["sabotage"]]
    seeds = card.seeds(tier)[:1] if tier == "smoke" else card.seeds(tier)
    return Plan(card, tier, arms, seeds, list(own))


def _arm(card: Card, name: str, tier: str, own: Sequence[str], config_dirs: Sequence[str], *, broken: bool) -> Arm:
    words = card.overrides(name, tier, broken)
    device = "cuda" if tier == "cuda" else "cpu"
    usual = [*words, "pictures=false", f"trainer.accelerator={device}", f"tier={tier}", f"name={card.id}"]
    composed = compose.inspect([*usual, *own], config_dirs)
    if composed.mistakes:
        what = f"sabotage of {name}" if broken else f"arm {name}"
        raise UserError(*(f"claim={card.id}, {what}: {line}" for line in composed.mistakes))
    targets = sorted(set(provenance.targets_in(_plain(composed.cfg))))
    choices = {group: _options(option) for group, option in composed.choices.items() if "/" not in group}
    made_by = {
        "overrides": words,
        "config_hash": provenance.config_hash(composed.cfg, MAY_DIFFER),
        "sources_hash": provenance.of_sources(choices),
        "code_hash": provenance.of_code(targets),
        "targets": targets,
        "choices": choices,
    }
    return Arm(name, broken, words, composed.cfg, made_by)


def _plain(cfg: DictConfig) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=False)


def _options(option: str) -> str | list[str]:
    """Hydra tells a list of options as a text: `[l2, shift]`."""
    return re.findall(r"\w+", option) if option.startswith("[") else option


def comes_from(record: Mapping[str, Any], arm: Arm) -> bool:
    same = ("config_hash", "code_hash")
    return (
        all(record.get(key) == arm.provenance[key] for key in same) and record.get("torch") == provenance.torch_minor()
    )


# ---- running --------------------------------------------------------------------------------------------------------


def carry_out(plan: Plan) -> dict[str, Any]:
    """Run what is left, then judge; write the result and return it. At tier `smoke` nothing is judged or written.

    Raises:
        Interrupted: a run was asked to stop, and has saved.
        UserError: a run could not be made.
    """
    left = plan.left()
    for number, (arm, seed) in enumerate(left, start=1):
        record = run_one(plan, arm, seed)
        took = f"{record['seconds']:.1f} s"
        print(
            f"  {number}/{len(left)}  {arm.title}, seed {seed}: {_in_short(plan.card, record)}, {took}", file=sys.stderr
        )
    content = gathered(plan)
    if plan.tier not in JUDGED:
        return content
    content = result.sealed(content)
    path = result.path_of(plan.card.id, plan.tier)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text(path, result.spelled(content))
    from dl_zoo.claims import figure

    figure.draw(content, path.with_suffix(".png"))
    return content


def run_one(plan: Plan, arm: Arm, seed: int) -> dict[str, Any]:
    """One run from its start or from where it was stopped; its record, which is also left in its folder."""
    from dl_zoo.run import run

    where = plan.folder(arm, seed)
    set_aside(where, arm)
    where.mkdir(parents=True, exist_ok=True)
    cfg = compose.with_values(arm.cfg, {"seed": seed, "run_dir": str(where), "resume": "auto"})
    known = {key: arm.provenance[key] for key in ("config_hash", "code_hash")} | {"torch": provenance.torch_minor()}
    begun = read_json(where / "record.json") or {}
    spent = float(begun.get("seconds", 0.0))
    started = time.perf_counter()
    folder.write_json(where / "record.json", {**known, "status": "begun", "seconds": spent})
    outcome = run(cfg, quiet=True)
    seconds = spent + time.perf_counter() - started
    record = {**known, "seed": seed, "status": outcome.status, "seconds": seconds, "commit": commit()}
    record |= {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "metrics": asked_for(plan.card, outcome.metrics)}
    record["device"] = device(read_json(where / "environment.json") or {})
    if outcome.status == "finished":
        record |= _more(plan.card, where)
    folder.write_json(where / "record.json", result.plain(record))
    if outcome.status == "interrupted":
        raise Interrupted(outcome.signal)
    return record


def set_aside(where: Path, arm: Arm) -> None:
    """Move a run that came of other code or another configuration out of the way; nothing is deleted."""
    found = read_json(where / "record.json")
    if where.is_dir() and any(where.iterdir()) and not (found and comes_from(found, arm)):
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        older = ROOT / "older" / where.relative_to(ROOT).with_name(f"{where.name}-{stamp}")
        older.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(where, older)
        print(f"  {where} came of other code or another configuration; it is now {older}", file=sys.stderr)


def asked_for(card: Card, metrics: Mapping[str, float]) -> dict[str, float]:
    """All but the numbers a layer (`probe/gradient/07`) that neither rule nor figure looks at."""
    globs = [
        str((card.content.get("figure") or {}).get("metric", "")),
        *(m for r in card.content["rule"] for _, m in asked_by(r)),
    ]
    return {
        name: value
        for name, value in metrics.items()
        if not name.rpartition("/")[2].isdigit() or any(fnmatchcase(name, glob) for glob in globs)
    }


def _more(card: Card, where: Path) -> dict[str, Any]:
    """Curves and test items, where the card asks for them."""
    rules = card.content["rule"]
    tags = {rule["metric"] for rule in rules if rule.get("over") == "curve"}
    drawn = card.content.get("figure") or {}
    tags |= {drawn["metric"]} if drawn.get("kind") == "curves" else set()
    more: dict[str, Any] = {"curves": curves(where, tags)} if tags else {}
    if any(rule.get("over") == "items" for rule in rules):
        more["right"] = right_items(where)
    return more


def curves(where: Path, tags: set[str]) -> dict[str, list[tuple[int, float]]]:
    """Curves of a run from its event file, thinned out evenly."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(where), size_guidance={"scalars": 0}).Reload()
    found = {}
    for tag in sorted(tags & set(events.Tags()["scalars"])):
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        found[tag] = points[:: max(1, -(-len(points) // POINTS))]
    return found


def right_items(where: Path) -> str:
    """Which test items the run's tested checkpoint gets right: their count, and four of them a hexadecimal digit."""
    import csv

    from dl_zoo.commands.evaluate import evaluate

    _, files = evaluate(where)
    with files[1].open(encoding="utf-8") as file:
        bits = "".join(str(int(row["target"] == row["prediction"])) for row in csv.DictReader(file))
    padded = bits + "0" * (-len(bits) % 4)
    return f"{len(bits)}:{int(padded, 2):0{len(padded) // 4}x}"


def gathered(plan: Plan) -> dict[str, Any]:
    """Every run's record, with what they all come from."""
    parts: dict[str, dict[str, Any]] = {"arms": {}, "sabotage": {}}
    found: dict[str, set[str]] = {"device": set(), "commit": set(), "date": set()}
    for arm in plan.arms:
        records = [plan.record(arm, seed) or {} for seed in plan.seeds]
        for key, seen in found.items():
            seen |= {str(record[key]) for record in records if record.get(key)}
        kept = ("seed", "status", "metrics", "seconds", "curves", "right")
        runs = [{key: record[key] for key in kept if key in record} for record in records]
        parts["sabotage" if arm.broken else "arms"][arm.name] = {**arm.provenance, "runs": runs}
    every = [run for part in parts.values() for arm in part.values() for run in arm["runs"]]
    return {
        "id": plan.card.id,
        "tier": plan.tier,
        "card": dict(plan.card.content),
        **parts,
        "environment": {
            "torch": provenance.torch_minor(),
            "python": ".".join(platform.python_version_tuple()[:2]),
            "device": ", ".join(sorted(found["device"])),
            "machine": machine(),
        },
        "commit": ", ".join(sorted(found["commit"])) or None,
        "date": max(found["date"], default=""),
        "command": " ".join(["dl-zoo reproduce", f"claim={plan.card.id}", f"tier={plan.tier}"]),
        "seconds": sum(run["seconds"] for run in every),
    }


def device(environment: Mapping[str, Any]) -> str:
    """
    >>> device({"device": "cpu", "threads": 1}), device({"device": "NVIDIA H100 80GB HBM3", "threads": 8})
    ('cpu (threads: 1)', 'NVIDIA H100 80GB HBM3')
    """
    name = str(environment.get("device", ""))
    return f"{name} (threads: {environment.get('threads')})" if name == "cpu" else name


def machine() -> str:
    """Processor and cores, as a reader can compare them."""
    name = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = m[1].strip() if (m := re.search(r"^model name\s*:(.*)$", text, re.MULTILINE)) else name
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def commit() -> str | None:
    """The commit of the code that runs, with + where code or configuration differ from it; null outside of a clone."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", "../configs")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def without_metrics(card: Card, content: Mapping[str, Any]) -> Iterator[str]:
    """Metrics that a rule asks for and an arm did not log."""
    for number, rule in enumerate(card.content["rule"], start=1):
        for arm, metric in asked_by(rule):
            for run in content["arms"][arm]["runs"]:
                if run["status"] == "finished" and metric not in {*run["metrics"], "diverged"}:
                    yield f"claim={card.id}, rule {number}: arm {arm} logs no {metric}"


def _in_short(card: Card, record: Mapping[str, Any]) -> str:
    """The first rule's metric of one run."""
    metric = card.content["rule"][0]["metric"]
    value = record["metrics"].get(metric)
    return record["status"] if record["status"] != "finished" or value is None else f"{metric} {value:.4g}"


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
