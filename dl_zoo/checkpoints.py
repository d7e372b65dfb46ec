"""The one loader: for resume, evaluation, fine-tuning and the Python interface.

A checkpoint is Lightning's layout plus `dl_zoo: {schema, config, dims, classes, normalisation, vocabulary}`, plain data
only. It is read with `weights_only`, so a pickled object inside is refused and never run, and the configuration that
it carries is trusted for no code beyond what the shipped YAMLs name (`trust.check_stored`).
"""

import io
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.trust import check_stored

SCHEMA = 1
ORDER = ("best", "last", "previous")  # what a folder is read from when nothing is asked for


# ---- writing: a file is complete or absent, whenever the power goes ----------------------------------------------


def write_atomically(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write beside the target, flush to the disk, then rename over it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.writing")
    content = io.BytesIO()
    torch.save(dict(checkpoint), content)  # in memory first: torch's writer hides why a disk refuses
    scratch.unlink(missing_ok=True)
    try:
        with scratch.open("xb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def alias(path: Path, name: str) -> None:
    """Give the checkpoint a second name in one atomic step; checkpoints are never changed in place."""
    scratch = path.with_name(f".{name}.writing")
    scratch.unlink(missing_ok=True)
    try:
        os.link(path, scratch)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, scratch)
    scratch.replace(path.with_name(name))


# ---- reading -----------------------------------------------------------------------------------------------------


def read_tensors(path: Path) -> Any:
    """Whatever plain data a torch file holds, on the CPU. Raises UserError for anything else."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        if zipfile.is_zipfile(path):  # torch does not look at the checksums
            with zipfile.ZipFile(path) as archive:
                if (broken := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(broken)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"(?:GLOBAL|Unsupported (?:global|class)[: ]*) *(\S+)", str(error))
        what = f" ({code.group(1)})" if code else ""
        raise UserError(
            f"{path} is damaged, or holds Python objects{what}, which could run code and are never loaded; "
            "a checkpoint of plain tensors is accepted"
        ) from error
    except Exception as error:  # a damaged header makes the reader fail in any way
        raise UserError(f"{path} is damaged, or no checkpoint ({type(error).__name__}); use another") from error


def read(path: Path) -> dict[str, Any]:
    """One of our checkpoints, checked: its layout, its schema, and that its configuration names only trusted code."""
    checkpoint = read_tensors(path)
    ours = checkpoint.get("dl_zoo") if isinstance(checkpoint, dict) else None
    counters = isinstance(checkpoint, dict) and all(
        isinstance(checkpoint.get(k), int) for k in ("epoch", "global_step")
    )
    if not isinstance(ours, dict) or not counters or not _is_state(checkpoint.get("state_dict")):
        raise UserError(f"{path} is not a checkpoint of dl_zoo; to start from its weights use weights={path}")
    if ours.get("schema") != SCHEMA:
        raise UserError(f"{path} has checkpoint schema {ours.get('schema')}; this version reads schema {SCHEMA}")
    check_stored(ours.get("config"), str(path))
    return checkpoint


def _is_state(state: Any) -> bool:
    return isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())


def find(path: str | Path, name: str | None = None) -> Path:
    """The checkpoint file behind a path: the file itself, or the named (else the best) one of a run folder."""
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if str(path).split(":")[0] in ("zoo", "torchvision"):
        raise UserError(f"weights={path}: none are shipped for this model yet; name a run folder or a checkpoint")
    if not path.is_dir():
        raise UserError(f"{path}: there is no such run folder or checkpoint")
    names = (name,) if name else ORDER
    for candidate in names:
        file = path / "checkpoints" / f"{candidate}.ckpt"
        if file.is_file():
            return file
    raise UserError(f"{path} holds no checkpoint {' or '.join(names)}; a run folder has checkpoints/best.ckpt")


def find_resumable(folder: Path) -> tuple[Path | None, str]:
    """The newest undamaged checkpoint to continue from (None: start anew), and a sentence when it is not the last."""
    said = ""
    for name in ("last", "previous"):
        path = folder / "checkpoints" / f"{name}.ckpt"
        if not path.is_file():
            continue
        try:
            read(path)
        except UserError as error:
            said = f"{path.name} is unusable ({error})"
            continue
        if name == "previous":  # or the next save would put the damaged one in its place
            alias(path, "last.ckpt")
        return path.with_name("last.ckpt"), said and f"{said}; continuing from {path.name}"
    if said:
        raise UserError(f"{folder}: {said}, and there is no other checkpoint; start a fresh run")
    if (folder / "checkpoints" / "best.ckpt").is_file():
        raise UserError(
            f"{folder}: its last checkpoint was deleted, so it cannot go on; weights={folder} starts from its best"
        )
    return None, ""


def net_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The net's own state dict: without the task's prefix, and without `torch.compile`'s."""
    state = {key.replace("_orig_mod.", ""): value for key, value in checkpoint["state_dict"].items()}
    return {key.removeprefix("net."): value for key, value in state.items() if key.startswith("net.")}


def restore(net: nn.Module, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Put a checkpoint's weights into the net that its own configuration describes; anything amiss is an error."""
    state = net_state(checkpoint)
    own = net.state_dict()
    amiss = sorted(own.keys() ^ state.keys()) + [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if amiss:
        raise UserError(f"{path} does not fit its own configuration: {', '.join(amiss[:3])} (of {len(amiss)}) differ")
    net.load_state_dict(state)


# ---- starting from other weights ---------------------------------------------------------------------------------


@dataclass
class Report:
    """What a load did, name by name; `percent` is the share of the net's parameters that came from the file."""

    source: str
    matched: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)  # the head, of another size: it keeps its fresh weights
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    percent: float = 0.0

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors matched, {self.percent:.1f} % of the parameters"]
        for what in ("renamed", "replaced", "missing", "unexpected"):
            if names := list(getattr(self, what)):
                parts.append(f"{what}: {', '.join(names)}")
        return f"weights from {self.source}: " + "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_weights(net: nn.Module, source: str | Path, weights_map: Mapping[str, str] | None = None) -> Report:
    """Start a net from another run or a stranger's file, and say exactly what was done.

    A head of another size (the last module with weights) is left fresh and named. Raises UserError when anything else
    does not match, so nothing is ever silently skipped.
    """
    path = find(source)
    state = _stranger_state(read_tensors(path), path)
    report = Report(str(source))
    for old, new in (weights_map or {}).items():
        for key in [k for k in state if k == old or k.startswith(f"{old}.")]:
            report.renamed[key] = new + key.removeprefix(old)
            state[report.renamed[key]] = state.pop(key)
    own = net.state_dict()
    head = list(dict(net.named_parameters()))[-1].rsplit(".", 1)[0] + "."
    for key in sorted(own.keys() & state.keys()):
        same = own[key].shape == state[key].shape
        (report.matched if same else report.replaced).append(key)
    report.missing = sorted(own.keys() - state.keys())
    report.unexpected = sorted(state.keys() - own.keys())
    wrong = [key for key in report.replaced if not key.startswith(head)] + report.missing + report.unexpected
    if wrong:
        raise UserError(f"{report}; {wrong[0]} does not match this net: rename with weights_map={{old: new}}")
    net.load_state_dict({key: state[key] for key in report.matched}, strict=not report.replaced)
    loaded = sum(own[key].numel() for key in report.matched)
    report.percent = 100 * loaded / max(1, sum(tensor.numel() for tensor in own.values()))
    return report


def _stranger_state(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a file of ours or a stranger's: unwrapped, and without `module.`-like prefixes."""
    if isinstance(content, dict) and "dl_zoo" in content and _is_state(content.get("state_dict")):
        return net_state(content)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    state = {key: value for key, value in items if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        raise UserError(f"{path} holds no state dict of tensors")
    for prefix in ("module.", "_orig_mod.", "net.", "model."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
