"""A sweep: Hydra's own sweeper and launcher, each job composed and run as a single command would.

A job is named after what is swept (`mlp-digits-adam-seed0`), so that runs can be told apart in TensorBoard. One that is
done already, by the same name and configuration, is not done again; one that fails does not end the sweep.
"""

import json
import math
import os
import re
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dl_zoo import folder
from dl_zoo.commands.arguments import obey_trust
from dl_zoo.compose import compose, finish, for_hydra
from dl_zoo.errors import UserError
from dl_zoo.options import CONFIGS, groups
from dl_zoo.values import FORBIDDEN_IN_NAMES

LONGEST_NAME = 120  # characters; file systems take 255


class JobFailed(Exception):
    """How Hydra hears of a failure that is told already."""


def sweep(overrides: list[str], config_dirs: list[str], trusted: list[str]) -> int:
    """Run every combination; 0, or 2 when a job diverged or its configuration was wrong, 1 when one crashed.

    Raises:
        UserError: before the first job, where one of the values composes to nothing.
    """
    swept, goal = compose_each_value(overrides, config_dirs)
    if any(text.startswith("run_dir=") for text in overrides):
        raise UserError("run_dir= names one folder, and a sweep needs many: leave it out; name= may group them")
    with tempfile.TemporaryDirectory() as scratch:  # Hydra insists on writing a multirun.yaml
        outcomes = Path(scratch) / "outcomes"
        outcomes.mkdir()
        try:
            _call_hydra(overrides, config_dirs, trusted, swept, goal, outcomes)
        except (SystemExit, KeyboardInterrupt):
            _summary(outcomes)
            print("go on        the same command with resume=auto", file=sys.stderr)
            raise
        return _summary(outcomes)


def _call_hydra(
    overrides: list[str], config_dirs: list[str], trusted: list[str], swept: list[str], goal: str, outcomes: Path
) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    program = sys.argv[0]
    here = Path.cwd()

    def job(composed: DictConfig) -> float:
        number = HydraConfig.get().job.num
        choices = dict(HydraConfig.get().runtime.choices)
        own = [text for text in HydraConfig.get().overrides.task if not text.startswith("hydra.")]
        HydraConfig.instance().cfg = None  # or Lightning would start further ranks by Hydra's rules, not by ours
        os.chdir(here)
        obey_trust(trusted)
        flags = [flag for each in config_dirs for flag in ("--config-dir", each)]
        flags += [flag for each in trusted for flag in ("--trust", each)]
        sys.argv = [program, *(["train"] if not program.endswith("train.py") else []), *own, *flags]  # further ranks'
        return _run_job(composed, choices, own, swept, outcomes / f"{number:06d}.json")

    words = [
        program,
        "-m",
        f"hydra.sweep.dir={outcomes.parent}",
        *_for_optuna(overrides, goal),
        *map(for_hydra, overrides),
    ]
    if config_dirs:
        words += [f"hydra.searchpath=[{','.join(f'file://{Path(each).absolute()}' for each in config_dirs)}]"]
    with _hydra_arguments(words), suppress(JobFailed):
        try:
            hydra.main(config_path=str(CONFIGS), config_name="train", version_base="1.3")(job)()
        except (HydraException, OmegaConfBaseException) as error:  # of launcher and sweeper: ours are composed before
            raise UserError(" ".join(str(error).split()).partition(" Config search path")[0]) from error


def _for_optuna(overrides: Sequence[str], goal: str) -> list[str]:
    """What its sweeper is told unless the user says it: not to stop at the first failure, and which way is better."""
    told = {"max_failure_rate": "1.0", "direction": goal} if "hydra/sweeper=optuna" in overrides else {}
    said = {_key(text) for text in overrides}
    return [f"hydra.sweeper.{key}={value}" for key, value in told.items() if f"hydra.sweeper.{key}" not in said]


def _run_job(composed: DictConfig, choices: Mapping[str, Any], own: list[str], swept: list[str], file: Path) -> float:
    """The best value of one job's monitored metric; how it ended goes to a file, for it may run in another process."""
    outcome: dict[str, Any] = {"job": " ".join(own), "status": "failed"}
    try:
        cfg = finish(composed, choices)
        cfg.name = _name(cfg.name, own, swept)
        done = folder.finished_like(cfg)
        metrics = _train(cfg, outcome) if done is None else folder.final_metrics(done) or {}
        if done is not None:
            outcome["status"] = "done before"
            print(f"done before: {done}", file=sys.stderr)
        return float(metrics.get("best", math.nan))
    except UserError as error:
        outcome["reason"] = str(error)
    except Exception as error:
        outcome |= {"status": "crashed", "reason": f"{type(error).__name__}: {error}"}
        traceback.print_exc()
    finally:
        file.write_text(json.dumps(outcome), encoding="utf-8")
    print(f"dl-zoo: {outcome['reason']}", file=sys.stderr)
    raise JobFailed(outcome["reason"])


def _train(cfg: DictConfig, outcome: dict[str, Any]) -> dict[str, float]:
    from dl_zoo.run import run

    result = run(cfg)
    outcome["status"] = result.status
    if result.status == "interrupted":
        raise SystemExit(128 + result.signal)  # ends the sweep; an Exception would end the job alone
    if result.status == "diverged":
        raise UserError(result.reason)
    return result.metrics


def _summary(folder: Path) -> int:
    outcomes = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.iterdir())]
    counts = Counter(outcome["status"] for outcome in outcomes)
    jobs = "1 job" if len(outcomes) == 1 else f"{len(outcomes)} jobs"
    print(f"\n{jobs}: {', '.join(f'{count} {status}' for status, count in counts.items())}", file=sys.stderr)
    bad = [outcome for outcome in outcomes if "reason" in outcome]
    for outcome in bad:
        print(f"dl-zoo: {outcome['job']}: {outcome['reason']}", file=sys.stderr)
    print("compare      dl-zoo compare runs", file=sys.stderr)
    return 1 if counts["crashed"] else 2 if bad else 0


# ---- names -------------------------------------------------------------------------------------------------------


def _name(base: str, own: Sequence[str], swept: Sequence[str]) -> str:
    """A job's name after its swept values; as it is where the user gave one."""
    values = {_key(text): text.partition("=")[2] for text in own}
    if "name" in values:
        return base
    words = [_word(key, values[key]) for key in swept if key in values and key not in ("model", "data")]
    return "-".join([base, *words])[:LONGEST_NAME]


def _word(key: str, value: str) -> str:
    """A choice by itself, a number behind its key's last part, without what a folder's name may not hold.

    >>> _word("optimizer", "adam"), _word("optimizer.lr", "0.00443037524"), _word("regularizer", "[dropout,l2]")
    ('adam', 'lr0.00443', 'dropout+l2')
    """
    with suppress(ValueError):
        value = f"{float(value):.4g}"
    word = re.sub(r"[,\s]+", "+", value.strip("[]{}'\"")) or "none"
    word = "".join("_" if letter in FORBIDDEN_IN_NAMES else letter for letter in word)
    return word if key in groups() else f"{key.rpartition('.')[2]}{word}"


def _key(text: str) -> str:
    return text.lstrip("+~").partition("=")[0]


# ---- before the first job ----------------------------------------------------------------------------------------


def compose_each_value(overrides: list[str], config_dirs: list[str]) -> tuple[list[str], str]:
    """Find the mistakes of a sweep before its first job starts.

    Returns the keys that are swept, and whether to "minimize" or "maximize" the monitored metric.
    """
    fixed: list[str] = []
    swept: list[Override] = []
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            fixed.append(text)
            continue
        if override.is_hydra_override() or text.startswith("hydra."):
            continue
        if override.is_sweep_override():
            swept.append(override)
        else:
            fixed.append(text)
    mistakes: list[str] = []
    goals: set[str] = set()
    for words in [[], *([f"{o.get_key_element()}={value}"] for o in swept for value in _values(o))]:
        try:
            goals.add("maximize" if compose([*fixed, *words], config_dirs).task.mode == "max" else "minimize")
        except UserError as error:
            mistakes += [line for line in error.lines if line not in mistakes]
    if mistakes:
        raise UserError(*mistakes)
    return list(dict.fromkeys(_key(override.get_key_element()) for override in swept)), goals.pop()


def _values(override: Override) -> Iterator[str]:
    """All options of a group; of numbers the first and the last, since each costs a tenth of a second."""
    found = list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
    yield from found if override.key_or_group in groups() else dict.fromkeys([*found[:1], *found[-1:]])


@contextmanager
def _hydra_arguments(arguments: list[str]) -> Iterator[None]:
    """Hydra reads the command line and the environment; both are put back."""
    typed, full_error = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    handler = signal.getsignal(signal.SIGINT)
    sys.argv = arguments
    os.environ["HYDRA_FULL_ERROR"] = "1"  # our own errors come back as they are
    try:
        yield
    finally:
        sys.argv = typed
        signal.signal(signal.SIGINT, handler)
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
