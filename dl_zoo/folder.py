"""The run folder: chosen once, owned by one process at a time, and never half-written."""

import json
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from dl_zoo.errors import UserError
from dl_zoo.options import plain_yaml
from dl_zoo.trust import check_stored
from dl_zoo.values import needs_length

RUNS = Path("runs")
# Between a run and its continuation these may differ: where and on what it runs, how it is watched, and how long.
MAY_DIFFER: tuple[str, ...] = (
    "run_dir",
    "resume",
    "data_dir",
    "data.data_dir",
    "data.dims",
    "dims",
    "logger",
    "diagnostics",
    "pictures",
)
MAY_DIFFER += ("checkpoint_every", "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.profiler")
LENGTH = ("trainer.max_epochs", "trainer.max_steps")  # only where nothing was laid out over it
WATCHED = ("logger", "diagnostics", "pictures")  # a run that is watched otherwise leaves other files


def choose(cfg: DictConfig) -> tuple[Path, bool]:
    """The folder of this run, and whether a run is continued there.

    Raises:
        UserError: the folder exists without `resume`, is no run folder, or was made by another configuration.
    """
    if cfg.resume and cfg.resume != "auto":
        return _continued(Path(cfg.resume).expanduser(), cfg), True
    if cfg.run_dir:
        folder = Path(cfg.run_dir).expanduser()
        if not (folder / "config.yaml").is_file():
            if folder.is_dir() and any(not _is_ours(p.name) for p in folder.iterdir()):
                raise UserError(f"run_dir={folder} exists and is not a run folder; name a new or an empty one")
            return folder, False
        if not cfg.resume:
            raise UserError(f"run_dir={folder} holds a run; continue it with resume=auto or name another folder")
        return _continued(folder, cfg), True
    if cfg.resume == "auto":
        for folder in sorted((RUNS / cfg.name).glob("*/"), reverse=True):
            if final_metrics(folder) is None and _fits(folder, cfg):
                return folder, True
    return RUNS / cfg.name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"), False


def _is_ours(name: str) -> bool:
    """What a run that was killed before it began may leave."""
    return name in (".lock", "train.log", "record.json") or (name.startswith(".") and name.endswith(".writing"))


def _fits(folder: Path, cfg: DictConfig) -> bool:
    """Is this a run of the same configuration? A folder that cannot be read is none."""
    try:
        return not differences(folder, cfg)
    except UserError:
        return False


def _continued(folder: Path, cfg: DictConfig) -> Path:
    if changed := differences(folder, cfg):
        raise UserError(f"{folder} was made with another {', '.join(changed[:3])}; leave that as it was, or start anew")
    return folder


def read_config(folder: Path) -> DictConfig:
    """The configuration of a run folder, checked like a stranger's: plain data that names only trusted code."""
    path = folder / "config.yaml"
    if not path.is_file():
        there = "is not a run folder: it has no config.yaml" if folder.is_dir() else "there is no such run folder"
        raise UserError(f"{folder}: {there}")
    try:
        return check_stored(plain_yaml(path.read_text(encoding="utf-8")), str(path))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {' '.join(str(error).split())[:120]}") from error


def differences(folder: Path, cfg: DictConfig) -> list[str]:
    """The dotted keys in which a configuration differs from the one in the folder, where a continuation may not."""
    free_keys = MAY_DIFFER if needs_length(cfg) else MAY_DIFFER + LENGTH
    return _differing(folder, cfg, free_keys)


def _differing(folder: Path, cfg: DictConfig, free_keys: Sequence[str]) -> list[str]:
    ours = _flat(OmegaConf.to_container(cfg, resolve=False))
    theirs = _flat(OmegaConf.to_container(read_config(folder), resolve=False))
    return [
        key
        for key in sorted(ours.keys() | theirs.keys())
        if not any(key == free or key.startswith(f"{free}.") for free in free_keys)
        and "${" not in str(ours.get(key))
        and ours.get(key) != theirs.get(key)
    ]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict) and node:
        return {k: v for key, child in node.items() for k, v in _flat(child, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): node}


def asks_for_more(folder: Path, cfg: DictConfig) -> bool:
    """Is a finished run asked to train longer than it was? (Early stopping may have ended it sooner.)"""
    return any(asked > kept for asked, kept in zip(_length(cfg), _length(read_config(folder)), strict=True))


def _length(cfg: DictConfig) -> list[float]:
    values = [OmegaConf.select(cfg, key) for key in LENGTH]
    return [math.inf if value is None or value < 0 else value for value in values]


def finished_like(cfg: DictConfig) -> Path | None:
    """The newest finished run of this name and configuration, as long and watched alike: nothing is left to do."""
    free_keys = [key for key in MAY_DIFFER if key not in WATCHED]
    for folder in sorted((RUNS / cfg.name).glob("*/"), reverse=True):
        with suppress(UserError):  # a folder that cannot be read is none
            if final_metrics(folder) is not None and not _differing(folder, cfg, free_keys):
                return folder
    return None


def make(folder: Path, numbered: bool) -> Path:
    """Create the folder. A `numbered` one that exists (two runs in one second) gets -n2, -n3, ... behind its name.

    Raises:
        UserError: a file is in the way, or the folder cannot be made.
    """
    for attempt in count(2):
        try:
            folder.mkdir(parents=True, exist_ok=not numbered)
            return folder
        except (FileExistsError, NotADirectoryError):
            if not folder.is_dir():
                raise UserError(f"{folder}: a file is in the way; name another folder with run_dir=") from None
            folder = folder.with_name(f"{folder.name.rsplit('-n', 1)[0]}-n{attempt}")
        except OSError as error:
            raise UserError(f"{folder} cannot be made: {error.strerror}; name another with run_dir=") from error
    raise AssertionError("count is endless")


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the operating system lets go of it when the process dies."""
    for name in (".lock", "train.log"):
        if (folder / name).is_symlink():
            raise UserError(f"{folder / name} is a link, which a run never makes; remove it")
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder} is in use by another process; wait for it, or choose another run_dir=") from None
    try:
        yield
    finally:
        (folder / ".lock").unlink(missing_ok=True)  # while it is held, so that nobody else is let in between
        lock.release()
        for empty in (folder, folder.parent, RUNS):  # nothing came of it: leave nothing behind
            with suppress(OSError):
                empty.rmdir()


@contextmanager
def kept_if_begun(folder: Path) -> Iterator[None]:
    """Clear away a folder whose run failed before it began (a dataset that is not there, say): nothing is in it yet."""
    try:
        yield
    except UserError:
        if not (folder / "config.yaml").exists():
            (folder / "train.log").unlink(missing_ok=True)
        raise


def final_metrics(folder: Path) -> dict[str, float] | None:
    """The metrics of a finished run; None while it is unfinished."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) and isinstance(metrics.get("epoch"), int | float) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Complete or absent."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Complete or absent."""
    scratch = path.with_name(f".{path.name}.writing")
    scratch.unlink(missing_ok=True)  # left by a kill, or a link laid by a stranger
    try:
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def command() -> str:
    """What was typed, as one can type it again."""
    name = Path(sys.argv[0]).name
    program = ["dl-zoo"] if name in ("__main__.py", "dl-zoo") else ["python", name] if name.endswith(".py") else [name]
    return shlex.join([*program, *sys.argv[1:]])
