"""The gate: which code a configuration may name, and the only place where what it names is built.

A `_target_` is accepted when it occurs, as a string, in the shipped YAMLs, or lies in a module that a person trusted on
the command line. It is compared before any import; a node is resolved first, and what is checked is what is built.
"""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from dl_zoo.errors import UserError
from dl_zoo.options import CONFIGS

_trusted_modules: set[str] = set()
PLUGIN = r"(hydra\._internal\.core_plugins|hydra_plugins)(\.\w+)+(Launcher|Sweeper)|optuna\.samplers\.\w+Sampler"


def trust(*modules: str) -> None:
    """Allow `_target_`s inside these modules for this process. Only a person says this, never a file."""
    _trusted_modules.update(modules)


@cache
def shipped_targets() -> frozenset[str]:
    """Every `_target_` that the shipped YAMLs name: exactly these strings are importable without `--trust`."""
    return frozenset(
        target
        for path in CONFIGS.rglob("*.yaml")
        for target in re.findall(r"_target_: *([\w.]+)", path.read_text(encoding="utf-8"))
    )


def check_targets(config: Any, source: str) -> None:
    """Refuse every `_target_`, at any depth, that is neither shipped nor trusted; nothing is imported to decide it."""
    for node in _mappings(config):
        target = node.get("_target_", "")
        if "_target_" in node and not _is_trusted(target):
            raise UserError(f"{source} names code that is not trusted: {target!r}; if it is yours: --trust its.module")


def _is_trusted(target: Any) -> bool:
    """Shipped; or defined in a trusted module itself, not merely imported there (`my_models.torch.load`)."""
    if not isinstance(target, str):
        return False
    if target in shipped_targets():
        return True
    home, _, name = target.rpartition(".")
    module = next((m for m in _trusted_modules if _within(home, m)), None)
    if module is None:
        return False
    try:
        importlib.import_module(module)
    except ImportError:
        return True  # there is nothing to run; `build` says that it is missing
    try:
        return _within(getattr(getattr(importlib.import_module(home), name, None), "__module__", ""), module)
    except ImportError:
        return False


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def check_hydra(section: DictConfig) -> None:
    """Hydra itself builds launcher, sweeper and callbacks of a sweep: they must be its plugins, or trusted."""
    for node in _mappings(section):
        target = node.get("_target_", "")
        plugin = re.fullmatch(PLUGIN, str(target))
        if "_target_" in node and not plugin and not _is_trusted(target):
            raise UserError(f"the hydra section names code that is not trusted: {target!r}; if it is yours: --trust it")


def _mappings(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, DictConfig | ListConfig):
        node = OmegaConf.to_container(node, resolve=False)
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _mappings(child)


def check_stored(config: Any, source: str) -> DictConfig:
    """A configuration that came with a folder or a checkpoint: plain, resolved data that names only trusted code."""
    parts = ("task", "data", "model", "optimizer", "trainer")
    if not _is_plain(config) or not all(isinstance(config.get(part), dict) for part in parts):
        raise UserError(f"{source} holds no configuration of a dl_zoo run; is it from another program?")
    if "${" in yaml.safe_dump(config):
        raise UserError(f"{source} holds an interpolation (a dollar sign and a brace), which a stored run never does")
    check_targets(config, source)
    return OmegaConf.create(config)


def _is_plain(node: Any, depth: int = 0) -> bool:
    """Dictionaries with words as keys, lists, and single values, nested no deeper than a configuration is."""
    if isinstance(node, dict) and depth < 20:
        return all(isinstance(key, str) and _is_plain(child, depth + 1) for key, child in node.items())
    if isinstance(node, list) and depth < 20:
        return all(_is_plain(child, depth + 1) for child in node)
    return type(node) in (str, int, float, bool, type(None))


def build(node: DictConfig, partial: bool = False) -> Any:
    """Instantiate a node, after the gate. With `partial` the caller adds the remaining arguments.

    Raises:
        UserError: the node's code is not trusted, or its arguments are not accepted.
    """
    content = OmegaConf.to_container(node, resolve=True)  # what is checked is what is built
    check_targets(content, "the configuration")
    if not isinstance(content, dict) or "_target_" not in content or "${" in str(content):
        raise UserError("the configuration has a part that names nothing to build, or an interpolation in a value")
    if isinstance(dims := content.get("dims"), dict):  # what only the data know is None to them
        content["dims"] = {key: None if value == "???" else value for key, value in dims.items()}
    try:
        return instantiate(OmegaConf.create(content), _convert_="all", **({"_partial_": True} if partial else {}))
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        what = " ".join(str(cause or error).split())
        raise UserError(f"{node._get_full_key('') or node._target_}: {what}") from error
