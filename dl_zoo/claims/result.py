"""Stored results, `results/claims/<id>.<tier>.json`: every seed's values, where they come from, and a seal over it all.

id, tier, card        the card as it stood when the arms ran: its rules were written before
arms, sabotage        arm -> {overrides, config_hash, sources_hash, code_hash, targets, choices, runs}
  runs                {seed, status, metrics, seconds[, curves, right]} a seed; NaN is null
environment           torch's minor version, python, device, machine
commit, date, command, seconds
rechecked             {seed, commit, date} of the runs that gave the same numbers on other code; see `recheck`
rule_is_older         were rule, seeds and calibration the same when every run began?
verdict, sabotage_verdict, findings, sabotage_findings
hash                  SHA-256 of all the rest: what was edited by hand does not match it
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dl_zoo.claims.judge import Finding, Judgement, judge
from dl_zoo.errors import UserError
from dl_zoo.options import nearest

SCHEMA = 1
RESULTS = Path("results/claims")
COME_WITH_THE_CLONE = Path(__file__).parents[2] / RESULTS
Kinds = Mapping[str, type | tuple[type, ...]]
SHAPE: dict[str, Any] = dict.fromkeys(("id", "tier", "commit", "date", "command", "hash"), str)
SHAPE |= {"card": dict, "arms": dict, "sabotage": dict, "environment": dict, "seconds": (int, float)}
SHAPE |= {"rule_is_older": bool}
ARM: Kinds = {"runs": list, "overrides": list, "targets": list, "choices": dict}
ARM = {**ARM, **dict.fromkeys(("code_hash", "config_hash", "sources_hash"), str)}
RUN: Kinds = {"seed": int, "status": str, "metrics": dict, "seconds": (int, float)}


def path_of(id: str, tier: str) -> Path:
    return RESULTS / f"{id}.{tier}.json"


def seal(content: Mapping[str, Any]) -> str:
    """The hash of a result without its hash, whatever the order of its keys."""
    rest = {key: value for key, value in content.items() if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """As JSON can hold it: what is not a finite number becomes null.

    >>> plain({"loss": float("nan"), "acc": 0.5})
    {'loss': None, 'acc': 0.5}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A result with its verdict and its hash, ready to be written."""
    values: dict[str, Any] = plain({"schema": SCHEMA, **content})
    judgement = judged(values)
    values |= {
        "verdict": judgement.words,
        "sabotage_verdict": judgement.sabotage,
        "findings": [finding.words for finding in judgement.findings],
        "sabotage_findings": {name: [each.words for each in found] for name, found in judgement.broken.items()},
    }
    return {**values, "hash": seal(values)}


def spelled(content: Mapping[str, Any]) -> str:
    """As JSON, a run a line.

    >>> print(spelled({"arms": {"a": {"runs": [{"seed": 0}, {"seed": 1}]}}, "sabotage": {}}))
    {
     "arms": {
      "a": {
       "runs": [
        {"seed": 0},
        {"seed": 1}
       ]
      }
     },
     "sabotage": {}
    }
    <BLANKLINE>
    """
    runs: list[str] = []

    def marked(arm: Mapping[str, Any]) -> dict[str, Any]:
        places = range(len(runs), len(runs) + len(arm["runs"]))
        runs.extend(json.dumps(run) for run in arm["runs"])
        return {**arm, "runs": [f"@run{place}@" for place in places]}

    marks = {part: {name: marked(arm) for name, arm in content[part].items()} for part in ("arms", "sabotage")}
    text = json.dumps({**content, **marks}, indent=1)
    return re.sub(r'"@run(\d+)@"', lambda match: runs[int(match[1])], text) + "\n"


def judged(content: Mapping[str, Any]) -> Judgement:
    arms, sabotage = ({name: arm["runs"] for name, arm in content[part].items()} for part in ("arms", "sabotage"))
    judgement = judge(content["card"], arms, sabotage, content["tier"])
    if content["rule_is_older"]:
        return judgement
    words = "rule, seeds or calibration were changed after runs that they judge; choose fresh seeds"
    return replace(judgement, verdict="ERROR", findings=[Finding("ERROR", words), *judgement.findings])


def read(path: Path) -> dict[str, Any]:
    """A stored result.

    Raises:
        UserError: it cannot be read, is none, or was edited since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(content, dict) or not _is_result(content):
        raise UserError(f"{path} is not a claim's result; dl-zoo reproduce writes them")
    if path.stem != f"{content['id']}.{content['tier']}":
        raise UserError(f"{path} is the result of {content['id']} at tier {content['tier']}; give it its own name")
    if content["hash"] != seal(content):
        raise UserError(f"{path} does not match its hash: it was edited by hand; dl-zoo reproduce makes it anew")
    return content


def _is_result(content: Mapping[str, Any]) -> bool:
    """Has it the shape that the judge relies on? What the values say is not looked at."""
    if any(not isinstance(content.get(key), kinds) for key, kinds in SHAPE.items()):
        return False
    arms = [arm for part in ("arms", "sabotage") for arm in content[part].values()]
    if any(not isinstance(arm, dict) or any(not isinstance(arm.get(k), t) for k, t in ARM.items()) for arm in arms):
        return False
    runs = [run for arm in arms for run in arm["runs"]]
    if any(not isinstance(run, dict) or any(not isinstance(run.get(k), t) for k, t in RUN.items()) for run in runs):
        return False
    where = content["environment"]
    numbers = [value for run in runs for value in run["metrics"].values()]
    return all(isinstance(where.get(key), str) for key in ("torch", "device", "machine")) and all(
        value is None or isinstance(value, int | float) for value in numbers
    )


def stored(ids: Sequence[str] = (), tier: str | None = None) -> list[Path]:
    """The files of these claims, of all if none is named.

    Raises:
        UserError: there is none, or none of a claim that is named.
    """
    found = sorted(RESULTS.glob("*.json"))
    if not found:
        raise UserError(f"{RESULTS}: no results here; dl-zoo reproduce claim=... tier=cpu makes them")
    known = {path: path.stem.rpartition(".")[0] for path in found}
    ids = [id.removeprefix("claim=") for id in ids if id not in ("all", "claim=all")]
    if missing := [id for id in ids if id not in known.values()]:
        raise UserError(*(f"{id}: no result in {RESULTS}; {nearest(id, known.values())}" for id in missing))
    wanted = [path for path in found if not ids or known[path] in ids]
    return [path for path in wanted if tier is None or path.stem.endswith(f".{tier}")]
