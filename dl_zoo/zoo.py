"""The Python interface: list, create and load, all of which work under `torch.device("meta")`."""

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from dl_zoo import checkpoints, compose, options, trust
from dl_zoo.errors import UserError
from dl_zoo.optimizers import build_optimizer


def list_models(pattern: str = "*") -> list[str]:
    """The names of all models that match a glob, such as `"lenet*"`."""
    return [name for name in options.names("model") if fnmatch(name, pattern)]


def model_card(name: str) -> dict[str, Any]:
    """What a model's YAML states of it: paper, year, parameters, dims, task and the names that people also type."""
    return compose.compose_with_card([f"model={options.resolve_model(name)}"])[1]


def create_model(
    name: str,
    *,
    weights: str | Path | None = None,
    weights_map: dict[str, str] | None = None,
    pretrained: bool = False,
    **net_arguments: Any,
) -> nn.Module:
    """The bare net, at the paper's sizes unless arguments say otherwise.

    Args:
        name: one of `list_models()`, or another name on its card.
        weights: a run folder, one of our checkpoints, or a stranger's state dict.
        weights_map: renames dotted prefixes of that file's keys.
        pretrained: the weights that ship with the zoo, the same as `weights="zoo"`; an error where none do.
        net_arguments: the net's own, such as `num_classes=10`.
    Raises:
        UserError: an unknown name or argument, or weights that do not fit.
    """
    cfg, card = compose.compose_with_card([f"model={options.resolve_model(name)}"])
    return _net(cfg, card, net_arguments, "zoo" if pretrained else weights, weights_map)


def create_module(
    name: str,
    *,
    task: str | None = None,
    optimizer: str | None = None,
    weights: str | Path | None = None,
    weights_map: dict[str, str] | None = None,
    pretrained: bool = False,
    **net_arguments: Any,
) -> pl.LightningModule:
    """The task with its net, loss and optimizer (`task` and `optimizer` are config names), for any bare `Trainer`."""
    overrides = [f"model={options.resolve_model(name)}"]
    overrides += [f"{group}={option}" for group, option in (("task", task), ("optimizer", optimizer)) if option]
    cfg, card = compose.compose_with_card(overrides)
    net = _net(cfg, card, net_arguments, "zoo" if pretrained else weights, weights_map)
    return trust.build(cfg.task, partial=True)(net=net, optimizer=build_optimizer(cfg.optimizer))


def _data_dir(config: DictConfig, overrides: dict[str, Any]) -> str:
    """Where the run found its data, unless it was moved to where that folder does not exist."""
    kept = overrides.get("data_dir") or overrides.get("data.data_dir") or config.get("data_dir")
    typed = {"data_dir", "data.data_dir"} & overrides.keys()
    here = kept if typed or Path(str(kept)).is_dir() else os.environ.get("DL_ZOO_DATA", "data")
    return str(Path(here).absolute())


def _net(
    cfg: DictConfig,
    card: dict[str, Any],
    arguments: dict[str, Any],
    weights: str | Path | None,
    weights_map: dict[str, str] | None,
) -> nn.Module:
    known = [str(key) for key in cfg.model if not str(key).startswith("_")]
    for key in arguments:
        if key not in known:
            raise UserError(f"{key}: this model has no such argument; {options.nearest(key, known)}")
    with open_dict(cfg):
        cfg.dims = card.get("dims", {})
        cfg.model.update(arguments)
    OmegaConf.resolve(cfg.model)
    net = trust.build(cfg.model)
    if weights is not None:
        print(checkpoints.load_weights(net, weights, weights_map))
    return net


@dataclass(frozen=True)
class Run:
    """A trained run, loaded: the net with its weights, the task that holds it, its data (not read yet), its config."""

    net: nn.Module
    task: Any
    data: Any
    config: DictConfig
    path: Path  # the checkpoint
    epoch: int  # in which it was saved, counted from 1
    step: int


def load_run(path: str | Path, checkpoint: str | None = None, overrides: dict[str, Any] | None = None) -> Run:
    """Load a run folder (its best checkpoint, or the one named) or a checkpoint file; nothing else is needed.

    Args:
        overrides: dotted keys of the stored configuration, such as `{"data_dir": "/elsewhere"}`.
    Raises:
        UserError: no such run, a damaged or foreign checkpoint, or one that names code which is not trusted.
    """
    file = checkpoints.find(path, checkpoint)
    content = checkpoints.read(file)
    from dl_zoo.run import build_task  # here, because it brings the callbacks and TensorBoard along

    config = OmegaConf.create(content["dl_zoo"]["config"])
    for key, value in (overrides or {}).items():
        if OmegaConf.select(config, key, default="no such key") == "no such key":
            raise UserError(f"{key}: the stored configuration has no such key")
        OmegaConf.update(config, key, value)
    if "data_dir" in config.data:
        config.data.data_dir = _data_dir(config, overrides or {})
    try:
        task = build_task(config, trust.build(config.model))
        data = trust.build(config.data)
    except UserError:
        raise
    except Exception as error:  # a stranger's configuration can be wrong in any way
        raise UserError(f"{file}: its configuration describes no run ({type(error).__name__}: {error})") from error
    checkpoints.restore(task.net, content, file)
    return Run(task.net, task, data, config, file, content["epoch"] + 1, content["global_step"])
