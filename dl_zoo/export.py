"""A trained net as one file for other programs, beside it what they must know of it, and proof that it is the net.

Formats:

- `onnx`: the graph and its weights, for ONNX Runtime and the many that read ONNX; neither torch nor this package is
  needed to use it.
- `torch_export`: the same of torch.export; `torch.export.load(file).module()` is a net without its Python code.
- `safetensors`: the weights alone, under the names of the net's state dict; `model` and `arguments` of the JSON say
  how the net is built.

`FILE.json` tells the rest: shape, type and range of the input, classes, normalisation, metrics, versions, SHA-256.
"""

import hashlib
import importlib.util
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

import dl_zoo
from dl_zoo import checkpoints, folder, trained, trust
from dl_zoo.errors import UserError

if TYPE_CHECKING:
    from dl_zoo.zoo import Run

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
BATCHES = (1, 3)  # a file whose batch is free is tried on these: one that is fixed in the graph fails on either
TOLERANCE = 1e-4  # largest difference of the logits, in parts of the largest logit
Use = Callable[[Tensor], Tensor]  # (B, ...) -> logits


class NotTheNet(Exception):
    """The file that was written computes something else than the net."""


@dataclass(frozen=True)
class Exported:
    file: Path
    sidecar: Path
    difference: float  # in parts of the largest logit


def export(
    path: str | Path,
    format: str,
    output: str | Path | None = None,
    batch: int | None = None,
    checkpoint: str | None = None,
) -> Exported:
    """Write a run's net as a file with its JSON, after the file was loaded again and gave the same logits.

    Args:
        path: a run folder, a checkpoint, or `zoo:<file>`.
        format: a key of `SUFFIXES`.
        output: the file; default: the run's name, in its folder.
        batch: how many items a call of the file takes; None: any number.
    Raises:
        UserError: no such run, a package that is missing, a net that cannot be traced, a place that cannot be written.
        NotTheNet: its logits differ; nothing was written.
    """
    require(format)
    facts = trained.facts(path, checkpoint)
    where = Path() if trained.is_shipped(path) else run_folder(checkpoints.find(path, checkpoint))
    target = placed(where, facts["name"], format, output)
    run = trained.load(path, checkpoint)
    shape, normalisation = input_shape(run, path), facts["normalisation"]
    net = run.net.cpu().eval()
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".writing", dir=target.parent) as scratch:
            file = Path(scratch) / target.name
            write(net, format, file, torch.zeros(batch or 2, *shape), batch is None)
            difference = compared(
                net, used(format, file, run.config.model), shape, normalisation, (batch,) if batch else BATCHES
            )
            sidecar = file.with_name(f"{file.name}.json")
            folder.write_json(sidecar, told(run, facts, format, file, shape, batch, difference))
            flushed(file)
            for each in (file, sidecar):
                each.replace(target.parent / each.name)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}; name another with --output") from error
    return Exported(target, target.parent / sidecar.name, difference)


def require(format: str) -> None:
    """UserError where the packages of a format are not installed."""
    missing = [name for name in NEEDED.get(format, ()) if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise UserError(f"--format {format} needs {', '.join(missing)}, not installed here: pip install {names}")


def placed(folder: Path, name: str, format: str, output: str | Path | None) -> Path:
    """The file to write; a name that other programs would not recognise is refused."""
    suffix = SUFFIXES[format]
    name = (Path(name).name or "net") + suffix  # a stranger's checkpoint may name any place
    where = folder / name if output is None else Path(output).expanduser()
    if where.is_dir():
        where = where / name
    if where.suffix != suffix:
        raise UserError(f"--output {output}: the name of a file of format {format} ends in {suffix}")
    if not where.absolute().parent.is_dir():
        raise UserError(f"--output {output}: there is no such folder to write into")
    return where


def run_folder(checkpoint: Path) -> Path:
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def input_shape(run: "Run", path: str | Path) -> tuple[int, ...]:
    """Of one item: (C, S, S) of pictures, (C, T, S, S) of clips, (1, S) of sounds, (F,) of vectors."""
    dims = run.config.data.dims
    if hasattr(run.task, "generator_objective"):
        raise UserError(f"{path}: two nets that play are not exported; dl_zoo.load_run gives them, as net.generator")
    if dims.get("frames"):
        return (dims.channels, dims.frames, dims.image_size, dims.image_size)
    if dims.get("channels") and dims.get("image_size"):
        return (dims.channels, dims.image_size, dims.image_size)
    if dims.get("samples"):
        return (1, dims.samples)
    if dims.get("features"):
        return (dims.features,)
    raise UserError(f"{path}: its net takes neither pictures nor clips nor sounds nor vectors; export knows only these")


# ---- writing and loading again ------------------------------------------------------------------------------------


def write(net: nn.Module, format: str, file: Path, example: Tensor, any_batch: bool) -> None:
    if format == "safetensors":
        from safetensors.torch import save

        state = {key: value.detach().clone().contiguous() for key, value in net.state_dict().items()}
        file.write_bytes(save(state, metadata={"format": "pt"}))
        return
    free = ({0: torch.export.Dim("batch")},) if any_batch else None
    try:
        with kept_quiet():
            program = torch.export.export(net, (example,), dynamic_shapes=free)
            if format == "torch_export":
                torch.export.save(program, file)
                return
            names: dict[str, Any] = {"input_names": ["input"], "output_names": ["logits"], "dynamic_shapes": free}
            translated = torch.onnx.export(program, (example,), dynamo=True, verbose=False, **names)
            assert translated is not None
            translated.save(file, external_data=False)
    except OSError:
        raise
    except Exception as error:  # the exporter has as many errors as there are operators
        what = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        mend = "another --format, or --batch 1" if any_batch else "another --format"
        raise UserError(
            f"--format {format}: this net cannot be written as such ({type(error).__name__}: {what[:120]}); try {mend}"
        ) from error


@contextmanager
def kept_quiet() -> Iterator[None]:
    """The exporters tell of their progress, and warn of what torch itself does."""
    torch_log = logging.getLogger("torch")
    before = torch_log.level
    torch_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch_log.setLevel(before)


def used(format: str, file: Path, model: DictConfig) -> Use:
    """The file as another program would load it; bare weights into a fresh net of this configuration."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda inputs: torch.from_numpy(session.run(["logits"], {"input": inputs.numpy()})[0])
    if format == "torch_export":
        with kept_quiet():
            return torch.export.load(file).module()
    from safetensors.torch import load_file

    net = trust.build(model)
    net.load_state_dict(load_file(file))
    return net.eval()


@torch.no_grad()
def compared(
    net: nn.Module,
    other: Use,
    shape: tuple[int, ...],
    normalisation: Mapping[str, Any] | None,
    batches: tuple[int, ...],
) -> float:
    """Largest difference of the logits on random pictures, or normal vectors, in parts of the largest logit."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in batches:
        inputs = torch.rand(batch, *shape, generator=generator)
        if normalisation:
            mean, std = (torch.tensor(normalisation[key]).view(-1, 1, 1) for key in ("mean", "std"))
            inputs = (inputs - mean) / std
        elif len(shape) == 1:
            inputs = torch.randn(batch, *shape, generator=generator)
        expected, found = net(inputs), other(inputs)
        if expected.shape != found.shape:
            raise NotTheNet(f"its logits are of shape {tuple(found.shape)}, the net's of {tuple(expected.shape)}")
        distance = (expected - found).abs().max() / expected.abs().max().clamp(min=1e-30)
        worst = max(worst, float(distance.nan_to_num(nan=float("inf"))))
    if worst > TOLERANCE:
        raise NotTheNet(f"its logits differ from the net's by {worst:.1e} of the largest; {TOLERANCE:g} is allowed")
    return worst


def flushed(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


# ---- what the file does not tell of itself ------------------------------------------------------------------------


def told(
    run: "Run",
    facts: Mapping[str, Any],
    format: str,
    file: Path,
    shape: tuple[int, ...],
    batch: int | None,
    difference: float,
) -> dict[str, Any]:
    """The JSON beside the file: all that is needed to feed it and to read its answers."""
    model = {str(key): value for key, value in run.config.model.items()}
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {
        "file": file.name,
        "format": format,
        "sha256": digest,
        "bytes": file.stat().st_size,
        "name": facts["name"],
        "model": model.pop("_target_"),
        "arguments": json.loads(json.dumps(model)),
        "input": {
            "name": "input",
            "dtype": "float32",
            "shape": [batch or "batch", *shape],
            **ranges(facts, shape),
            **steps(run, shape),
        },
        "output": {"name": "logits", "dtype": "float32", "shape": [batch or "batch", classes_of(run, facts)]},
        "classes": facts["classes"],
        "normalisation": facts["normalisation"],
        "dims": facts["dims"],
        "checkpoint": run.path.name,
        "epoch": run.epoch,
        "step": run.step,
        "metrics": metrics_of(run, facts),
        "largest_difference": difference,
        "trained_by": facts.get("command") or trained_by(run_folder(run.path)),
        "command": folder.command(),
        "dl_zoo": dl_zoo.__version__,
        "torch": torch.__version__,
    }


def steps(run: "Run", shape: tuple[int, ...]) -> dict[str, str]:
    """How a picture file becomes the input, for data that are picture files."""
    data = run.config.data
    in_files = str(data.get("_target_")).startswith(("dl_zoo.data.image_folder.", "dl_zoo.data.imagenet."))
    if not in_files or data.get("eval_resize"):
        return {}
    kept = data.get("resize") or shape[-1]
    mode = "RGB" if shape[0] == 3 else "grey"
    brought = f"brought to {kept} x {kept} by Pillow: resize(size, BILINEAR, box=(left, top, left + side, top + side))"
    cut = f", of it the middle {shape[1]} x {shape[2]}" if kept != shape[-1] else ""
    return {"picture": f"{mode}, upright; the centre square, as wide as the shorter side, {brought}{cut}"}


def ranges(facts: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Of pictures: the layout, and what black and white become, a pair for each channel."""
    normalisation = facts["normalisation"]
    if len(shape) != 3 or not normalisation:
        return {}
    pairs = zip(normalisation["mean"], normalisation["std"], strict=True)
    return {
        "layout": "NCHW",
        "from": "pixels / 255, less the mean, over the std of `normalisation`",
        "range": [[round(-mean / std, 6), round((1 - mean) / std, 6)] for mean, std in pairs],
    }


def classes_of(run: "Run", facts: Mapping[str, Any]) -> int | None:
    return facts["dims"].get("num_classes") or run.config.model.get("num_classes")


def metrics_of(run: "Run", facts: Mapping[str, Any]) -> dict[str, float] | None:
    """Of the finished run, where this is its best checkpoint: they are of no other."""
    of_run = folder.final_metrics(run_folder(run.path)) if run.path.name == "best.ckpt" else None
    return facts.get("metrics") or of_run


def trained_by(where: Path) -> str | None:
    """The command that made the run, as its folder keeps it."""
    try:
        return json.loads((where / "environment.json").read_text(encoding="utf-8")).get("command")
    except (OSError, ValueError, AttributeError):
        return None
