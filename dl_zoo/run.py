"""The one trainer: `run(cfg)` is behind every command, sweep, notebook, test and judged claim."""

import errno
import json
import logging
import os
import platform
import shlex
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import nn

import dl_zoo
from dl_zoo import checkpoints, compose, dataset, features, folder, loop, precision, probing, trust
from dl_zoo.callbacks.attention_pictures import AttentionPictures
from dl_zoo.callbacks.diagnostics import Diagnostics
from dl_zoo.callbacks.forecasts import Forecasts
from dl_zoo.callbacks.generated_pictures import GeneratedPictures
from dl_zoo.callbacks.memory_pictures import MemoryPictures
from dl_zoo.callbacks.pictures import Pictures
from dl_zoo.callbacks.progress import ConsoleHandler, Progress
from dl_zoo.callbacks.spectrograms import Spectrograms
from dl_zoo.callbacks.survival import AtomicIO, Interrupted, Survival
from dl_zoo.callbacks.tags import Tags
from dl_zoo.callbacks.texts import Texts
from dl_zoo.errors import UserError
from dl_zoo.freezing import freeze
from dl_zoo.optimizers import build_optimizer
from dl_zoo.plan import plan

if not torch.cuda.is_available():
    # Lightning has torch look for CUDA by NVML. Where there is none, each optimizer step would look again: 0.3 ms.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)

log = logging.getLogger("dl_zoo")
CHANNELS_LAST = "channels_last"  # of configs/trainer/*.yaml: not an argument of Lightning's
FOLDER_OF_RANKS = "DL_ZOO_RUN_FOLDER"  # rank 0 chooses the folder; the processes that Lightning starts read it here


@dataclass(frozen=True)
class Result:
    """How a run ended. `metrics` is flat (`test/acc`); after divergence it holds what was known up to there."""

    metrics: dict[str, float]
    folder: Path
    status: Literal["finished", "diverged", "interrupted"]
    reason: str = ""
    signal: int = 0
    report: checkpoints.Report | None = field(default=None, compare=False)  # what `weights=` loaded


DRAWING = (Pictures, Texts, Tags, Forecasts, Spectrograms, AttentionPictures, MemoryPictures, GeneratedPictures)


def run(cfg: DictConfig, quiet: bool = False) -> Result:
    """Train what the configuration describes, test its best checkpoint, and leave a self-contained run folder.

    Args:
        cfg: as `compose` gives it.
        quiet: leave plan, epochs and closing words to `train.log`; on a terminal only the bar is shown.
    Raises:
        UserError: anything that the user can mend, in one line.
    """
    first = is_first()
    where, resuming = (Path(os.environ[FOLDER_OF_RANKS]), True) if not first else folder.choose(cfg)
    if not first:
        return _train(cfg, where, resuming)
    metrics = folder.final_metrics(where) if resuming else None
    if metrics and not folder.asks_for_more(where, cfg):
        return _finished(where, metrics)
    where = folder.make(where, numbered=not resuming and not cfg.run_dir)
    logging_to = partial(_logging_to, quiet=quiet)
    guards = (_disk_errors, folder.owned, folder.kept_if_begun, logging_to, _folder_for_ranks)
    with ExitStack() as stack, deterministic_alone():
        for guard in guards:
            stack.enter_context(guard(where))
        return _train(cfg, where, resuming)


def _train(cfg: DictConfig, where: Path, resuming: bool) -> Result:
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    checkpoint, said = checkpoints.find_resumable(where) if resuming else (None, "")
    data = dataset.ready(cfg, checkpoint)
    cfg = compose.resolve(cfg, data.dims)
    task = build_task(cfg, build_net(cfg))
    report = _start_from_weights(task.net, cfg, data, where) if checkpoint is None else None
    freeze(task.net, cfg.freeze)
    features.require(task)
    if cfg.trainer.max_epochs != 0:
        task.try_learning()
    probing.build_all(cfg)
    probed = probing.measure(cfg, task, data, "start")
    step = torch.load(checkpoint, weights_only=True, mmap=True)["global_step"] if checkpoint else 0

    header = {"schema": checkpoints.SCHEMA, "config": stored(cfg), **dataset.facts(data)}
    survival = Survival(where / "checkpoints", header, task.monitor, task.mode, cfg.checkpoint_every)
    logger = _logger(cfg, where, purge_step=step + 1 if checkpoint else 0 if resuming else None)
    begun = _precision_begun_with(cfg, where) if checkpoint else {}
    trainer = build_trainer(cfg, where, callbacks=[*build_callbacks(cfg), survival], logger=logger or False, **begun)
    words = plan(cfg, task, data, trainer, where)  # the last that can fail before anything is written
    if is_first():
        (where / "metrics.json").unlink(missing_ok=True)
        folder.write_text(where / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(stored(cfg))))
        folder.write_json(where / "environment.json", environment(trainer, data))
    log.info(words)
    if resuming:
        log.info("%s", said or f"continuing after step {step}" if checkpoint else "no checkpoint yet: starting anew")
    if report:
        log.info("%s", report)
        for line in dataset.other_pictures(cfg.weights, data):
            log.info("%s", line)

    try:
        with lightning_kept_quiet():
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            metrics = {"epoch": float(trainer.current_epoch), "step": float(trainer.global_step), **_metrics(trainer)}
            metrics |= {} if survival.best is None else {"best": survival.best}  # of the task's monitor
            metrics |= _test(trainer, task, data, where) | probed | probing.measure(cfg, task, data, "end")
            _fill_hparams(trainer, cfg, metrics)
    except pl.utilities.exceptions.MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    except FloatingPointError as error:
        return _diverged(where, error, _metrics(trainer), report)
    except Interrupted as stop:
        log.info("stopped by %s and saved; go on with: dl-zoo train resume=%s", stop, where)
        return Result(_metrics(trainer), where, "interrupted", str(stop), int(stop.signal), report)
    except SystemExit as stop:  # Lightning's answer to Ctrl-C outside of training
        raise KeyboardInterrupt from stop
    finally:
        for each in trainer.loggers:
            each.close()  # type: ignore[attr-defined]  # or its thread stays behind for each run of a sweep
    if is_first():
        folder.write_json(where / "metrics.json", metrics)
        log.info(_closing_words(metrics, where))
    return Result(metrics, where, "finished", report=report)


# ---- the parts, also for evaluation and the Python interface ------------------------------------------------------


def is_first() -> bool:
    """Is this the process that writes: the only one, or rank 0 of several?"""
    return getattr(rank_zero_only, "rank", 0) == 0


def build_net(cfg: DictConfig) -> nn.Module:
    """The net of a resolved configuration, with fresh weights."""
    net = trust.build(cfg.model)
    initialize(net, cfg)
    return net.to(memory_format=torch.channels_last) if cfg.trainer.get(CHANNELS_LAST) else net


def initialize(net: nn.Module, cfg: DictConfig) -> None:
    try:
        trust.build(cfg.initializer)(net)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"initializer: {' '.join(str(error).split())}") from error


def build_task(cfg: DictConfig, net: nn.Module) -> Any:
    """The task that holds this net, with optimizer, schedule and penalties, from a resolved configuration."""
    penalties = {name: each for name, each in _regularizers(cfg).items() if not isinstance(each, pl.Callback)}
    measuring = {"features": features.named(cfg.task.features)} if cfg.task.get("features") else {}
    return trust.build(cfg.task, partial=True)(net=net, penalties=penalties, **measuring, **build_learning(cfg))


def build_learning(cfg: DictConfig) -> dict[str, Any]:
    """A task's arguments `optimizer` and `scheduler`."""
    scheduler = trust.build(cfg.scheduler) if "_target_" in (cfg.scheduler or {}) else None
    return {"optimizer": build_optimizer(cfg.optimizer), "scheduler": scheduler}


def _regularizers(cfg: DictConfig) -> dict[str, Any]:
    """Those that are objects, by name: penalties on the net, and callbacks of the loop. The others only set numbers."""
    return {
        str(name): build_regularizer(cfg, str(name)) for name, node in cfg.regularizer.items() if "_target_" in node
    }


def build_regularizer(cfg: DictConfig, name: str) -> Any:
    """A penalty or a callback; None for one that only sets numbers elsewhere."""
    node = cfg.regularizer[name]
    return trust.build(node) if "_target_" in node else None


def build_trainer(cfg: DictConfig, where: Path, **arguments: Any) -> pl.Trainer:
    settings = {
        "plugins": [AtomicIO()],
        "default_root_dir": where,
        "enable_checkpointing": any(isinstance(c, Survival) for c in arguments.get("callbacks", [])),
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,  # our loaders share out their own batches
    }
    accelerator = cfg.trainer.accelerator
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UserError(
            f"trainer.accelerator={accelerator}: there is no CUDA device here; trainer=auto takes what there is"
        )
    try:
        with lightning_kept_quiet():
            node = compose.without(cfg.trainer, CHANNELS_LAST)
            if "precision" in node:
                node.precision = precision.chosen(node.precision, accelerator)
            return loop.install(trust.build(node, partial=True)(**{**settings, **arguments}))
    except (pl.utilities.exceptions.MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error


def stored(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain data, without where it happened to run."""
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()} | {"run_dir": None, "resume": None}


def environment(trainer: pl.Trainer, data: Any) -> dict[str, Any]:
    """What a reader needs to judge whether two runs are comparable."""
    origin = {"data": f"{data.origin} {data.fingerprint}"} if hasattr(data, "fingerprint") else {}
    return {
        **origin,
        "command": folder.command(),
        "dl_zoo": dl_zoo.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "platform": platform.platform(),
        "device": device_name(trainer),
        "devices": trainer.world_size,
        "precision": trainer.precision,
        "threads": torch.get_num_threads(),
    }


def device_name(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


# ---- small steps of a run -----------------------------------------------------------------------------------------


def build_callbacks(cfg: DictConfig) -> list[pl.Callback]:
    """All but the survival of the run. Averages of the weights come after what else changes weights."""
    regularizers = [each for each in _regularizers(cfg).values() if isinstance(each, pl.Callback)]
    regularizers.sort(key=lambda each: isinstance(each, WeightAveraging))
    drawing = [each() for each in DRAWING] if cfg.pictures else []
    watching = [Diagnostics()] if cfg.diagnostics else []
    return [Progress(), *regularizers, *drawing, *watching]


def _fill_hparams(trainer: pl.Trainer, cfg: DictConfig, metrics: dict[str, float]) -> None:
    for each in trainer.loggers if is_first() else []:
        each.log_final(stored(cfg), only_curves(metrics))  # type: ignore[attr-defined]


def _logger(cfg: DictConfig, where: Path, purge_step: int | None) -> Any:
    """`purge_step`: what an earlier attempt logged at this step and later is hidden, so that the curve is unbroken."""
    if "_target_" not in (cfg.logger or {}):
        return None
    return trust.build(cfg.logger)(save_dir=where, purge_step=purge_step)


def _precision_begun_with(cfg: DictConfig, where: Path) -> dict[str, str]:
    """A trainer's argument: a run of `auto` goes on, on whatever device, with what it began with."""
    path = where / "environment.json"
    if cfg.trainer.get("precision") != precision.AUTO or not path.is_file():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8")).get("precision")
    return {"precision": kept} if kept else {}


def _start_from_weights(net: nn.Module, cfg: DictConfig, data: Any, where: Path) -> checkpoints.Report | None:
    if not cfg.weights:
        return None
    report = checkpoints.load_weights(net, cfg.weights, cfg.weights_map, classes=getattr(data, "classes", None))
    if is_first():
        folder.write_json(where / "weights.json", report.as_dict())
    return report


def _test(trainer: pl.Trainer, task: Any, data: Any, where: Path) -> dict[str, float]:
    """Touch the test set once, with the checkpoint that was best on validation."""
    path = checkpoints.find(where)
    checkpoints.restore(task.net, checkpoints.read(path), path)
    trainer.test(task, datamodule=data, verbose=False)
    return {key: value for key, value in _metrics(trainer).items() if key.startswith("test/")}


def only_curves(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "/" in name}


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def _finished(where: Path, metrics: dict[str, float]) -> Result:
    with _handling(ConsoleHandler()):
        log.info("this run is finished")
        log.info(_closing_words(metrics, where))
    return Result(metrics, where, "finished")


def _diverged(where: Path, error: FloatingPointError, metrics: dict[str, float], report: Any) -> Result:
    reason, hint = str(error), getattr(error, "hint", "try a lower optimizer.lr")
    last = where / "checkpoints" / "last.ckpt"
    kept = f"the last good checkpoint is {last}" if last.exists() else "it diverged before the first checkpoint"
    return Result(metrics, where, "diverged", f"the run diverged: {reason}; {kept}; {hint}", 0, report)


def _closing_words(metrics: dict[str, float], where: Path) -> str:
    shown = {k: v for k, v in metrics.items() if k.startswith("test/")} or metrics
    probed = {k: v for k, v in metrics.items() if k.startswith("probe/")}
    shown |= probed if len(probed) <= 8 else {}  # those by layer are for the pictures
    lines = ["", *(f"  {name:<12} {value:.4f}" for name, value in shown.items()), ""]
    lines += [f"run folder   {where}", f"evaluate     dl-zoo evaluate {shlex.quote(str(where))}"]
    return "\n".join([*lines, f"compare      tensorboard --logdir {shlex.quote(str(_shelf(where)))}"])


def _shelf(where: Path) -> Path:
    """The folder that TensorBoard should open: all runs, where the run lies among them."""
    return folder.RUNS if folder.RUNS.resolve() in where.resolve().parents else where


@contextmanager
def _handling(*handlers: logging.Handler) -> Iterator[None]:
    """Our own lines go to these; rank 0 only."""
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


@contextmanager
def _logging_to(where: Path, quiet: bool) -> Iterator[None]:
    """To `train.log`, and on the terminal too unless it shall be quiet."""
    file = logging.FileHandler(where / "train.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    with _handling(file) if quiet else _handling(file, ConsoleHandler()):
        yield


@contextmanager
def _folder_for_ranks(where: Path) -> Iterator[None]:
    os.environ[FOLDER_OF_RANKS] = str(where.absolute())
    try:
        yield
    finally:
        del os.environ[FOLDER_OF_RANKS]


@contextmanager
def deterministic_alone() -> Iterator[None]:
    """`trainer.deterministic=true` is for its own run; Lightning leaves torch in that mode for the next of a sweep."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


@contextmanager
def _disk_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise UserError(
            f"{where} cannot be written: {error.strerror}; what was saved before is whole: "
            f"make room, then go on with resume={where}"
        ) from error


@contextmanager
def lightning_kept_quiet() -> Iterator[None]:
    """Our plan and our lines say it all; warnings that do not apply to our loaders are left out."""
    names = ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero", "lightning.pytorch")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        warnings.filterwarnings("ignore", message=".*returned `None`, this fit will run with no optimizer.*")
        warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
