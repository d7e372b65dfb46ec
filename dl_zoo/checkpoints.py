"""The one loader: for resume, evaluation, fine-tuning and the Python interface.

A checkpoint is Lightning's layout plus `dl_zoo: {schema, config, dims, classes, normalisation, vocabulary}`, plain data
only. It is read with `weights_only`, so a pickled object inside is refused and never run, and the configuration that
it carries is trusted for no code beyond what the shipped YAMLs name (`trust.check_stored`).
"""

import io
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dl_zoo import options, pretrained
from dl_zoo.data.download import sha256
from dl_zoo.errors import UserError
from dl_zoo.matching import Report, match, reset
from dl_zoo.trust import check_stored

SCHEMA = 1
INDEX = ".index.json"
SAVED = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
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
    """Whatever plain data a torch or safetensors file holds, on the CPU. Raises UserError for anything else."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if path.suffix in FOREIGN:
        raise UserError(f"{path} is a file of {FOREIGN[path.suffix]}; .pt, .pth, .th, .ckpt and .safetensors are read")
    try:
        if path.name.endswith(INDEX):
            return _in_pieces(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):  # torch does not look at the checksums
            with zipfile.ZipFile(path) as archive:
                if (broken := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(broken)
                if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                    raise UserError(
                        f"{path} is a TorchScript archive, which is code; save the net's state_dict instead"
                    )
        return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
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
    if not path.is_dir():
        raise UserError(f"{path}: there is no such run folder or checkpoint")
    names = (name,) if name else ORDER
    for candidate in names:
        file = path / "checkpoints" / f"{candidate}.ckpt"
        if file.is_file():
            return file
    raise UserError(f"{path} holds no checkpoint {' or '.join(names)}; a run folder has checkpoints/best.ckpt")


def find_weights(path: str | Path) -> Path:
    """As `find`; or the file of a folder as Hugging Face's libraries save it."""
    folder = Path(path).expanduser()
    return next((folder / name for name in SAVED if (folder / name).is_file()), None) or find(path)


def _in_pieces(index: Path) -> dict[str, Tensor]:
    """The tensors of all files that an index names, which lie beside it."""
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    if outside := [name for name in names if Path(name).name != name or name.endswith(INDEX)]:
        raise UserError(f"{index} names {outside[0]}, which is not a file beside it")
    return {key: value for name in sorted(names) for key, value in read_tensors(index.with_name(name)).items()}


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


WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params")  # in this order
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema")  # where nothing else is there
FOREIGN = {".h5": "Keras", ".keras": "Keras", ".onnx": "ONNX", ".pb": "TensorFlow", ".npz": "NumPy"}


def load_weights(
    net: nn.Module,
    source: str | Path,
    weights_map: Mapping[str, Any] | None = None,
    *,
    classes: Sequence[str] | None = None,
    unset: bool = False,
) -> Report:
    """Start a net from other weights, and say exactly what was done.

    A net that knows how others lay out its weights answers `adopted(state) -> (layout, state)`: the layout's name, and
    the tensors under the net's names and in its shapes; or "" and the state as it is.

    Args:
        source: a run folder, one of our checkpoints, a stranger's .pt, .pth, .th, .bin or .safetensors, a folder that
            holds such a file as Hugging Face names it, in one piece or several, `zoo:<file>`, or
            `torchvision:<model>[:<version>]`.
        weights_map: {old: new} renames dotted prefixes of the file's names; {old: null} drops them.
        classes: those that the net shall tell apart. Of a file that is known to tell others apart the head is not
            taken, whatever its size.
        unset: the net was built `without_initial_weights`; a replaced head then gets torch's.
    Raises:
        UserError: something else than a head does not match, so nothing is ever silently skipped.
    """
    path = pretrained.path_of(str(source)) if pretrained.is_named(source) else find_weights(source)
    content = read_tensors(path)
    known = pretrained.cards().get(path.stem, {}) if str(source).startswith("zoo:") else _ours(content)
    others = bool(classes and known.get("classes")) and list(known["classes"]) != list(classes or [])
    state, name = strangers_state(content, path), str(source)
    layout, state = net.adopted(state) if hasattr(net, "adopted") else ("", state)  # type: ignore[operator]
    name += f" ({layout})" if layout else ""
    report, loaded = match(net, state, weights_map or {}, name, fresh_heads=others)
    if unset:
        reset(net, report.replaced)
    net.load_state_dict(loaded, strict=False)  # `match` has accounted for every name
    return report


def _ours(content: Any) -> Mapping[str, Any]:
    ours = content.get("dl_zoo") if isinstance(content, dict) else None
    return ours if isinstance(ours, dict) else {}


def strangers_state(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file of ours or a stranger's holds, out of its wrappers."""
    if isinstance(content, dict) and "dl_zoo" in content and _is_state(content.get("state_dict")):
        return net_state(content)
    while isinstance(content, dict):  # tensors may stand beside the wrapped ones, such as the best accuracy
        inner = [key for key in (*WRAPPERS, *AVERAGES) if isinstance(content.get(key), dict)]
        if not inner:
            break
        content = content[inner[0]]
    items = content.items() if isinstance(content, dict) else ()
    state = {key: value for key, value in items if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        raise UserError(f"{path} holds no state dict of tensors; save one with torch.save(net.state_dict(), ...)")
    return state


# ---- weights that ship with the zoo ------------------------------------------------------------------------------


def publish(run_folder: str | Path, name: str, licence: str, where: Path | None = None) -> Path:
    """Write a run's best weights as `<name>.safetensors` with a card `<name>.json` beside it.

    Args:
        name: `<model>-<data>`, as `weights=zoo:<name>` will say it.
        licence: of the data that it was trained on.
        where: the repository's weights/, unless said otherwise.
    Raises:
        UserError: no such run, one that is not finished, or of another model than the name says.
    """
    from dl_zoo.records import current_commit  # asks git

    folder, where = Path(run_folder), where or pretrained.WEIGHTS
    file = find(folder)
    checkpoint = read(file)
    ours, model = checkpoint["dl_zoo"], options.resolve_model(name.partition("-")[0])
    node = dict(ours["config"]["model"])
    stated = options.read("model", model) if model in options.names("model") else {}
    if stated.get("_target_") != node.pop("_target_"):
        raise UserError(f"{name}: must begin with the model's name, and {file} holds another")
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{folder} is not finished; only a run with metrics.json is published")
    metrics, environment = (json.loads((folder / f"{each}.json").read_text()) for each in ("metrics", "environment"))
    state = {key: _single(value) for key, value in net_state(checkpoint).items()}
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"{name}.safetensors"
    save_file(state, path)
    card = {
        "model": model,
        "arguments": node,
        **{key: ours[key] for key in ("dims", "classes", "normalisation")},
        **({"vocabulary": ours["vocabulary"]} if ours.get("vocabulary") else {}),
        "metrics": {key: value for key, value in metrics.items() if key.startswith("test/")},
        "command": environment["command"],
        "seed": ours["config"]["seed"],
        "epoch": checkpoint["epoch"] + 1,
        "commit": current_commit(),
        "licence": licence,
        "size": path.stat().st_size,
        "sha256": sha256(path),
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return path


def _single(value: Tensor) -> Tensor:
    """Contiguous, and float32 where it is a number with a point."""
    return (value.float() if value.is_floating_point() else value).contiguous().clone()
