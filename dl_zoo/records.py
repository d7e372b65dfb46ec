"""`record.json` in the folder of a claim's run: what made it, how it ended and what it took; and what is read off it.

It is written when a run begins and again when it ends, so that a kill leaves the first one: status `begun`.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from dl_zoo import folder
from dl_zoo.claims import result
from dl_zoo.claims.card import Card, asked_by
from dl_zoo.claims.provenance import PACKAGE, of_content

NAME = "record.json"
ENDED = ("finished", "diverged")
POINTS = 200  # of a stored curve


def read(where: Path) -> dict[str, Any]:
    """The record in a folder; {} where there is none that can be read."""
    content = read_json(where / NAME)
    sound = isinstance(content.get("status"), str) and isinstance(content.get("seconds"), int | float)
    return content if sound and isinstance(content.get("metrics", {}), dict) else {}


def comes_from(record: Mapping[str, Any], made_by: Mapping[str, Any]) -> bool:
    """Was it made by this code and configuration, on this torch and kind of device?"""
    return bool(record) and all(record.get(key) == value for key, value in made_by.items())


def begin(where: Path, made_by: Mapping[str, Any], card: Card) -> dict[str, Any]:
    """Note what is about to make a run; of one that goes on, with what it took before and by which commits.

    What a killed attempt took is known up to the last line of its log.
    """
    before = read(where)
    spent = float(before.get("seconds", 0.0))
    with suppress(OSError):
        if before.get("status") == "begun":
            spent += max(0.0, (where / "train.log").stat().st_mtime - before["started"])
    record = {
        **made_by,
        "rules": before.get("rules", rules_of(card)),
        "status": "begun",
        "seconds": spent,
        "started": time.time(),
        "commits": sorted({*before.get("commits", []), *([commit] if (commit := current_commit()) else [])}),
    }
    where.mkdir(parents=True, exist_ok=True)
    folder.write_json(where / NAME, record)
    return record


def end(where: Path, record: Mapping[str, Any], status: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Note how it ended, and on what it ran."""
    environment = read_json(where / "environment.json")
    ended = {
        **record,
        "status": status,
        "seconds": record["seconds"] + time.time() - record["started"],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": device(environment),
        "data": environment.get("data", ""),
        "machine": machine(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "metrics": metrics,
    }
    folder.write_json(where / NAME, result.plain(ended))
    return ended


def rules_of(card: Card) -> str:
    """A hash of what was asserted when the run began."""
    folds = [card.content["folds"]] if card.content.get("folds") else []
    return of_content([*(card.content[key] for key in ("rule", "seeds", "calibration")), *folds])


def set_aside(where: Path, root: Path) -> None:
    """Move a run that came of other code or another configuration out of the way; nothing is deleted."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    older = root / "older" / where.relative_to(root).with_name(f"{where.name}-{stamp}")
    older.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(where, older)
    print(f"  {where} came of other code or another configuration; it is now {older}", file=sys.stderr)


# ---- what a result holds of a run ---------------------------------------------------------------------------------


def values(card: Card, seed: int, where: Path) -> dict[str, Any]:
    """One seed of a result: metrics as the run left them, curves and test items where the card asks for them."""
    record = read(where)
    finished = record["status"] == "finished"
    metrics = folder.final_metrics(where) if finished else record.get("metrics", {})
    found = {"seed": seed, "status": record["status"], "seconds": round(record["seconds"], 2)}
    found["metrics"] = asked_for(card, metrics or {})
    if not finished:
        return found
    if tags := curves_asked(card):
        found["curves"] = curves(where, tags)
    if any(rule.get("over") == "items" for rule in card.content["rule"]):
        found["right"] = right_items(where)
    return found


def asked_for(card: Card, metrics: Mapping[str, float]) -> dict[str, float]:
    """All but the numbers a layer (`probe/gradient/07`) that neither rule nor figure looks at."""
    globs = [str((card.content.get("figure") or {}).get("metric", ""))]
    globs += [str(metric) for rule in card.content["rule"] for _, metric in asked_by(rule)]
    return {
        name: value
        for name, value in metrics.items()
        if not name.rpartition("/")[2].isdigit() or any(fnmatchcase(name, glob) for glob in globs)
    }


def curves_asked(card: Card) -> set[str]:
    figure = card.content.get("figure") or {}
    tags = {figure["metric"]} if figure.get("kind") == "curves" else set()
    return tags | {rule["metric"] for rule in card.content["rule"] if rule.get("over") == "curve"}


def curves(where: Path, tags: Iterable[str]) -> dict[str, list[list[float]]]:
    """Curves of a run from its event file, thinned out evenly, with seven digits."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(where), size_guidance={"scalars": 0}).Reload()
    found = {}
    for tag in sorted({*tags} & {*events.Tags()["scalars"]}):
        points = [[event.step, float(f"{event.value:.7g}")] for event in events.Scalars(tag)]
        found[tag] = points[:: max(1, -(-len(points) // POINTS))]
    return found


def right_items(where: Path) -> str:
    """Which test items the run's tested checkpoint gets right: their count, and four of them a hexadecimal digit."""
    import csv

    predictions = where / "predictions-test.csv"
    if not predictions.is_file():
        from dl_zoo.commands.evaluate import evaluate

        evaluate(where)
    with predictions.open(encoding="utf-8") as file:
        bits = "".join(str(int(row["target"] == row["prediction"])) for row in csv.DictReader(file))
    padded = bits + "0" * (-len(bits) % 4)
    return f"{len(bits)}:{int(padded, 2):0{len(padded) // 4}x}"


def united(records: Sequence[Mapping[str, Any]], key: str) -> str:
    """What all records say of one thing, each once."""
    return ", ".join(sorted({str(record[key]) for record in records if record.get(key)}))


# ---- where it ran -------------------------------------------------------------------------------------------------


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
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = m[1].strip() if (m := re.search(r"^model name\s*:(.*)$", text, re.MULTILINE)) else name
    return f"{name}, {os.cpu_count()} cores"


@cache
def current_commit() -> str:
    """The commit of the code that this process runs, with + where the files differ from it; nothing outside a clone."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(PACKAGE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != PACKAGE.parent.resolve():
            return ""  # installed in somebody's repository
        changed = git("status", "--porcelain", "--", ".", "../configs")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """A mapping; {} where there is none."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
