"""`check`: everything that can be known of a run before it runs, on random data of the true shape; nothing is written.

Each part is built by itself, so that all mistakes are found and not only the first; a part that needs a broken one is
passed over. When all are sound, one step is trained for real, with the run's own callbacks, and a few are timed.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, ListConfig
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from dl_zoo import checkpoints, compose, dataset, features, folder, making, probing, run, trust
from dl_zoo.callbacks.progress import duration
from dl_zoo.errors import UserError
from dl_zoo.plan import device_words, layer_table, net_inputs
from dl_zoo.tasks.task import Task

TIMED = 5  # steps; the median of them
PATIENCE = 10.0  # seconds after which no further step is timed


@dataclass
class Preflight:
    """What `check` found: `mistakes`, one line each, and `lines` about the run where it could be built.

    `metrics` are the names that the run will leave in `metrics.json`.
    """

    mistakes: list[str] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            self.mistakes += [line for line in error.lines if line not in self.mistakes]

    def attempt(self, build: Callable[[], Any]) -> Any:
        """What `build` gives, or None and its mistakes noted."""
        with self.collecting():
            return build()
        return None


def check(overrides: Sequence[str] = (), config_dirs: Sequence[str | Path] = ()) -> Preflight:
    """Compose, build, and train one step on random data. Never downloads, never leaves a file."""
    found = Preflight()
    composed = found.attempt(lambda: compose.inspect(overrides, config_dirs))
    if composed is None:
        return found
    found.mistakes += composed.mistakes
    broken = composed.broken | {re.split(r"[.=]", line)[0] for line in composed.mistakes}
    quiet = (run.lightning_kept_quiet(), torch.random.fork_rng(), run.deterministic_alone())
    with tempfile.TemporaryDirectory() as scratch, quiet[0], quiet[1], quiet[2]:
        _check_parts(composed.cfg, broken, found, Path(scratch))
    return found


def _check_parts(cfg: DictConfig, broken: set[str], found: Preflight, scratch: Path) -> None:
    """Build all parts but the `broken` ones, of which everything has been said."""
    chosen = found.attempt(lambda: folder.choose(cfg))
    data = found.attempt(lambda: dataset.pretended(cfg, _source(cfg, chosen))) if "data" not in broken else None
    trainer = found.attempt(lambda: _trainer(cfg, scratch)) if "trainer" not in broken else None
    for name in cfg.probe if "probe" not in broken else []:
        found.attempt(partial(probing.build, cfg, name))
    if "_target_" in (cfg.logger or {}):
        found.attempt(lambda: trust.build(cfg.logger)(save_dir=scratch))
    cfg = found.attempt(lambda: compose.resolve(cfg, data.dims)) if data and "model" not in broken else cfg
    net = found.attempt(lambda: _net(cfg, data.classes, found)) if data and cfg and "model" not in broken else None
    if cfg and "optimizer" not in broken and _learns(cfg):
        found.attempt(lambda: _optimizer(cfg, net))
    for name in cfg.regularizer if cfg and "regularizer" not in broken else []:
        found.attempt(partial(run.build_regularizer, cfg, name))
    unbuilt = broken & {"model", "data", "task", "regularizer"}
    task = found.attempt(lambda: run.build_task(cfg, net)) if net and not unbuilt else None
    found.attempt(lambda: features.require(task))
    if task and trainer and not found.mistakes:
        with found.collecting():
            left_out = _translating_one(task)
            _one_step(cfg, task, data, trainer, left_out)
            found.metrics = _metrics(cfg, task, data, trainer) - left_out
            found.lines += _describe(cfg, task, data, trainer)


def _net(cfg: DictConfig, classes: Any, found: Preflight) -> Any:
    net = trust.build(cfg.model)
    found.attempt(lambda: run.initialize(net, cfg))
    if cfg.weights:
        found.attempt(lambda: checkpoints.load_weights(net, cfg.weights, cfg.weights_map, classes=classes))
    found.attempt(lambda: run.freeze(net, list(cfg.freeze) if isinstance(cfg.freeze, ListConfig) else []))
    return net


def _optimizer(cfg: DictConfig, net: Any) -> None:
    """Optimizer and schedule; without a net, over some parameter."""
    Task(net or torch.nn.Linear(2, 2), **run.build_learning(cfg)).try_learning()


def _source(cfg: DictConfig, chosen: tuple[Path, bool] | None) -> Any:
    """What the net goes on from: the run to be resumed, or other weights."""
    where, resuming = chosen or (Path(), False)
    last = where / "checkpoints" / "last.ckpt"
    return last if resuming and last.is_file() else cfg.weights


def _trainer(cfg: DictConfig, scratch: Path) -> pl.Trainer:
    """The run's own, for one batch; logging, saving and showing are left out."""
    short: dict[str, Any] = {
        "max_epochs": 1,
        "max_steps": -1,
        "limit_train_batches": 1,
        "limit_val_batches": 1,
        "profiler": None,
    }
    short |= {"overfit_batches": 0.0, "accumulate_grad_batches": 1, "devices": 1, "strategy": "auto"}
    short |= {"check_val_every_n_epoch": 1, "val_check_interval": None}
    if cfg.trainer.limit_val_batches == 0:
        short["limit_val_batches"] = 0
    cfg = compose.with_values(cfg, {**{f"trainer.{k}": v for k, v in short.items()}, "pictures": False})
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False}
    return run.build_trainer(cfg, scratch, callbacks=run.build_callbacks(cfg)[1:], logger=False, **quiet)


def _translating_one(task: Any) -> set[str]:
    """One sentence shows that a translator's BLEU can be had. Returns what is measured here, and not in the run."""
    asked = getattr(task, "bleu_items", None)
    if asked is not None:
        task.bleu_items = 1
    return {"val/bleu"} if asked == 0 else set()


def _one_step(cfg: DictConfig, task: Any, data: Any, trainer: pl.Trainer, left_out: set[str]) -> None:
    if not _learns(cfg):
        trainer.validate(task, datamodule=data, verbose=False)
        return
    try:
        trainer.fit(task, datamodule=data)
    except FloatingPointError as error:
        raise UserError(f"the first step diverges: {error}") from error
    logged = trainer.callback_metrics.keys() - left_out
    known = ", ".join(sorted(name for name in logged if name.startswith("val/")))
    if task.monitor not in logged and known:  # where nothing is validated, the last checkpoint is tested
        raise UserError(f"task.monitor={task.monitor}: there is no such metric; there are {known}")


def _learns(cfg: DictConfig) -> bool:
    return cfg.trainer.max_epochs != 0


def _metrics(cfg: DictConfig, task: Any, data: Any, trainer: pl.Trainer) -> set[str]:
    """The names of what the run measures, its probes asked on random pictures."""
    known = {str(name) for name in trainer.callback_metrics}
    if making.makes_things_up(task):  # what is measured of samples, of the test alone
        task.samples = min(task.samples, 16)
        trainer.test(task, datamodule=data, verbose=False)
        known |= {str(name) for name in trainer.callback_metrics}
    tested = {name.replace("val/", "test/") for name in known if name.startswith("val/")}
    probed = probing.measure(cfg, task, data, "start") | probing.measure(cfg, task, data, "end", trained=False)
    return known | tested | set(probed) | {"epoch", "step", "best"}


# ---- what the run will be -----------------------------------------------------------------------------------------


def _describe(cfg: DictConfig, task: Any, data: Any, trainer: pl.Trainer) -> list[str]:
    device = trainer.strategy.root_device
    task.to(device)
    inputs, targets = next(iter(data.loader("train")))
    cost = _cost(cfg, task, data, trainer, (inputs, targets)) if _learns(cfg) else ["training     none"]
    with torch.no_grad():
        pictures = isinstance(inputs, Tensor) and inputs.dtype != torch.int64
        table = layer_table(task.net.cpu().float(), net_inputs(task, inputs.float() if pictures else inputs))
    return [
        f"{cfg.name}  ({type(task).__name__.lower()})",
        "",
        *table,
        "",
        f"batch        inputs {_shape(inputs)}, targets {_shape(targets)}",
        f"parameters   {sum(p.numel() for p in task.parameters() if p.requires_grad):,} trainable",
        *cost,
        f"data         {_where(data)}",
    ]


def _cost(cfg: DictConfig, task: Any, data: Any, trainer: pl.Trainer, batch: Any) -> list[str]:
    precision = trainer.precision_plugin
    with precision.forward_context():
        seconds, memory = _measured(task, precision.convert_input(batch), trainer.optimizers)
    if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        memory["average"] = memory["weights"]
    return [
        f"memory       {', '.join(f'{name} {_bytes(size)}' for name, size in memory.items())}",
        f"time         {_time(cfg, data, seconds)} on {device_words(trainer.strategy.root_device)}",
    ]


def _measured(task: Any, batch: Any, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[float, dict[str, int]]:
    """Seconds of a training step, and bytes by what they hold. Activations are what the backward pass keeps."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    task.train()
    parameters = list(task.net.parameters())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        task.objective(batch).backward()
    for parameter in parameters:
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    state = [value for optimizer in optimizers for values in optimizer.state.values() for value in _tensors(values)]
    memory = {
        "weights": _size(parameters),
        "gradients": _size(p.grad for p in parameters if p.grad is not None),
        "optimizer": _size(state),
        "activations": sum(kept.values()),
    }
    fresh = task.optimizer_over([p for p in parameters if p.requires_grad])  # the other's schedule is at its end
    return _seconds(task, batch, fresh), memory


def _seconds(task: Any, batch: Any, optimizer: torch.optim.Optimizer) -> float:
    def closure() -> float:
        optimizer.zero_grad()
        loss = task.objective(batch)
        loss.backward()
        return float(loss.detach())  # waits for the device

    times: list[float] = []
    started = time.perf_counter()
    while len(times) < TIMED and time.perf_counter() - started < PATIENCE:
        before = time.perf_counter()
        optimizer.step(closure)
        times.append(time.perf_counter() - before)
    return median(times)


def _time(cfg: DictConfig, data: Any, seconds: float) -> str:
    step = f"{1000 * seconds:.3g} ms a step" if seconds < 1 else f"{duration(seconds)} a step"
    items, epochs = data.sizes.get("train"), cfg.trainer.max_epochs
    if not items or not epochs or epochs < 0 or "batch_size" not in cfg.data:
        return step
    steps = -(-items // cfg.data.batch_size)
    limit = cfg.trainer.limit_train_batches
    if limit is not None:
        steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
    total = steps * epochs if cfg.trainer.max_steps in (None, -1) else min(steps * epochs, cfg.trainer.max_steps)
    whole = f"{step}, {steps} steps an epoch, {total} in all"
    return f"{whole}: about {duration(round(seconds * total + 0.5))} and the validation"


def _where(data: Any) -> str:
    missing = data.absent()
    return f"not in {data.data_dir} yet: a run downloads {', '.join(missing)}" if missing else "there"


def _tensors(node: Any) -> Iterator[Tensor]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else []
    for child in children:
        yield from [child] if isinstance(child, Tensor) else _tensors(child)


def _size(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _bytes(size: float) -> str:
    """
    >>> [_bytes(size) for size in (0, 999, 1234, 61706 * 4, 5_400_000_000)]
    ['0 B', '999 B', '1.2 kB', '247 kB', '5.4 GB']
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if size < 10 and unit != "B" else f"{size:.0f} {unit}"


def _shape(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " and ".join(map(_shape, value))
    return " x ".join(map(str, value.shape)) or "1"
