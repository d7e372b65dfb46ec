"""The Python interface: list, create and load, all of which work under `torch.device("meta")`."""

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dl_zoo import checkpoints, compose, options, pretrained, trust
from dl_zoo.errors import UserError
from dl_zoo.optimizers import build_optimizer


def list_models(pattern: str = "*") -> list[str]:
    """The names of all models that match a glob, such as `"lenet*"`."""
    return [name for name in options.names("model") if fnmatch(name, pattern)]


def model_card(name: str) -> dict[str, Any]:
    """What a model's YAML states of it: paper, year, parameters, dims, task and the names that people also type."""
    return compose.compose_with_card(_words(options.resolve_model(name)))[1]


def _words(name: str) -> list[str]:
    """What composes a model by itself: the pictures of whatever data stand beside it are made large enough."""
    smallest = options.card(name).get("smallest") if name in options.names("model") else None
    return [f"model={name}", *([f"data.image_size={smallest}"] if smallest else [])]


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
        weights: a run folder, one of our checkpoints, a stranger's state dict, `torchvision`, or `zoo`.
        weights_map: renames dotted prefixes of that file's keys, or drops them (None).
        pretrained: the weights that ship with the zoo, as `weights="zoo"`, in the size that they were trained in; an
            error where none do. `net.card` then has their classes and the normalisation of their inputs.
        net_arguments: the net's own, such as `num_classes=10`; with 0 the net gives features.
    Raises:
        UserError: an unknown name or argument, or weights that do not fit.
    """
    name = options.resolve_model(name)
    cfg, card = compose.compose_with_card(_words(name))
    return _net(name, cfg, card, net_arguments, _source(weights, pretrained), weights_map)


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
    name = options.resolve_model(name)
    overrides = _words(name)
    overrides += [f"{group}={option}" for group, option in (("task", task), ("optimizer", optimizer)) if option]
    cfg, card = compose.compose_with_card(overrides)
    net = _net(name, cfg, card, net_arguments, _source(weights, pretrained), weights_map)
    return trust.build(cfg.task, partial=True)(net=net, optimizer=build_optimizer(cfg.optimizer))


def _source(weights: str | Path | None, shipped: bool) -> str | Path | None:
    if shipped and weights is not None:
        raise UserError(f"weights={weights} and pretrained=True: one of them; pretrained=True is weights='zoo'")
    return "zoo" if shipped else weights


def _data_dir(config: DictConfig, overrides: dict[str, Any]) -> str:
    """Where the run found its data, unless it was moved to where that folder does not exist."""
    kept = overrides.get("data_dir") or overrides.get("data.data_dir") or config.get("data_dir")
    typed = {"data_dir", "data.data_dir"} & overrides.keys()
    here = kept if typed or Path(str(kept)).is_dir() else os.environ.get("DL_ZOO_DATA", "data")
    return str(Path(here).absolute())


def _net(
    name: str,
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
    source = pretrained.full_name(str(weights), name) if pretrained.is_named(weights) else weights
    if str(source).startswith("torchvision") and arguments.get("stride_in", "3x3") != "3x3":
        raise UserError(pretrained.OTHER_STRIDE.format(arguments["stride_in"]))
    ours = pretrained.card_of(str(source).partition(":")[2], name) if str(source).startswith("zoo:") else {}
    with open_dict(cfg):
        cfg.dims = card.get("dims", {})
        cfg.model.update({key: value for key, value in ours.get("arguments", {}).items() if key in known})
        cfg.model.update(arguments)
    OmegaConf.resolve(cfg.model)
    if source is None:
        return trust.build(cfg.model)
    with without_initial_weights():
        net = trust.build(cfg.model)
    print(checkpoints.load_weights(net, source, weights_map, unset=True))
    if ours and "num_classes" not in arguments:  # with another head its classes would be wrong
        net.card = ours
    return net


class without_initial_weights(TorchFunctionMode):
    """Nets built in here leave their parameters unset where they would be drawn: weights follow from elsewhere.

    Drawing 138 million numbers for VGG-16 takes seconds, and nobody looks at them. Buffers and constants are as always.
    """

    DRAWS = frozenset(
        (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, Tensor.uniform_, Tensor.normal_, Tensor.erfinv_)
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        drawn = args[0] if args else (kwargs or {}).get("tensor")
        if func in self.DRAWS and isinstance(drawn, nn.Parameter):
            return drawn
        return func(*args, **(kwargs or {}))


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
        if isinstance(OmegaConf.select(config, key), DictConfig) and not isinstance(value, dict | DictConfig):
            raise UserError(f"{key}={value}: a run keeps its own {key}; set single values of it, as {key}.NAME=VALUE")
        OmegaConf.update(config, key, value)
    if "data_dir" in config.data:
        config.data.data_dir = _data_dir(config, overrides or {})
    try:
        with without_initial_weights():
            net = trust.build(config.model)
        task = build_task(config, net)
        data = trust.build(config.data)
    except UserError:
        raise
    except Exception as error:  # a stranger's configuration can be wrong in any way
        raise UserError(f"{file}: its configuration describes no run ({type(error).__name__}: {error})") from error
    if content["dl_zoo"].get("vocabulary"):
        data.vocabulary = content["dl_zoo"]["vocabulary"]  # fitted once: the ids are the net's
    checkpoints.restore(task.net, content, file)
    return Run(task.net, task, data, config, file, content["epoch"] + 1, content["global_step"])
