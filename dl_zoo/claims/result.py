"""Stored results, `results/claims/<id>.<tier>.json`: every seed's values, where they come from, and a seal over it all.

id, tier, card        the card as it stood when the arms ran: its rules were written before
arms, sabotage        arm -> {overrides, config_hash, sources_hash, code_hash, targets, choices, runs}
  runs                {seed, status, metrics, seconds[, curves, right]} a seed; NaN is null
environment           torch's minor version, python, device, machine
commit, date, command, seconds
verdict, sabotage_verdict, findings
hash                  SHA-256 of all the rest: what was edited by hand does not match it
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dl_zoo.claims.judge import Judgement, judge
from dl_zoo.errors import UserError

SCHEMA = 1
RESULTS = Path("results/claims")
PARTS = ("id", "tier", "card", "arms", "sabotage", "environment", "commit", "date", "command", "seconds", "hash")


def path_of(id: str, tier: str) -> Path:
    return RESULTS / f"{id}.{tier}.json"


def seal(content: Mapping[str, Any]) -> str:
    """The hash of a result without its hash, whatever the order of its keys."""
    rest = {key: value for key, value in content.items() if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """As JSON can hold it: what is not a finite number becomes null, floats are cut to seven digits.

    >>> plain({"loss": float("nan"), "acc": 0.9722222089767456})
    {'loss': None, 'acc': 0.9722222}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A result with its verdict and its hash, ready to be written."""
    values: dict[str, Any] = plain({"schema": SCHEMA, **content})
    judgement = judged(values)
    values |= {
        "verdict": judgement.words,
        "sabotage_verdict": judgement.sabotage,
        "findings": [finding.words for finding in judgement.findings],
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
    return judge(content["card"], arms, sabotage, content["tier"])


def read(path: Path) -> dict[str, Any]:
    """A stored result.

    Raises:
        UserError: it cannot be read, is none, or was edited since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(content, dict) or not content.keys() >= {*PARTS}:
        raise UserError(f"{path} is not a claim's result; dl-zoo reproduce writes them")
    if content["hash"] != seal(content):
        raise UserError(f"{path} does not match its hash: it was edited by hand; dl-zoo reproduce makes it anew")
    return content


def stored(ids: Sequence[str] = (), tier: str | None = None) -> list[Path]:
    """The files of these claims, of all if none is named.

    Raises:
        UserError: there is none, or none of a claim that is named.
    """
    found = sorted(RESULTS.glob("*.json"))
    if not found:
        raise UserError(f"{RESULTS}: no results here; dl-zoo reproduce claim=... tier=cpu makes them")
    known = {path: path.stem.rpartition(".")[0] for path in found}
    if missing := [id for id in ids if id not in known.values()]:
        raise UserError(*(f"{id}: no result in {RESULTS}; dl-zoo reproduce claim={id} tier=cpu" for id in missing))
    wanted = [path for path in found if not ids or known[path] in ids]
    return [path for path in wanted if tier is None or path.stem.endswith(f".{tier}")]
