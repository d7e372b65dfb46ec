"""From words on the command line to one finished configuration, and from a configuration to objects.

Hydra composes; this file adds what Hydra leaves to its users: messages with the nearest name, the regularizers'
bindings, the sizes that model and data agree on (`dims`), and the gate that decides which `_target_` may be imported.
Neither torch nor Lightning is imported here, so a misspelt word is answered in a fraction of a second.
"""

import difflib
import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dl_zoo.errors import UserError

_PACKAGE = Path(__file__).parent
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"  # wheel, or clone
FORBIDDEN_IN_NAMES = set("=,:(){}[] /\\")
COMPOSING = (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError)  # what it may raise
PARTS = ("task", "data", "model", "optimizer", "initializer", "trainer")  # a run has one of each
_trusted_modules: set[str] = set()


# ---- composing -------------------------------------------------------------------------------------------------


def compose(overrides: Sequence[str] = (), config_dirs: Sequence[str | Path] = ()) -> DictConfig:
    """The finished configuration of one run: what `run` takes and what `config.yaml` keeps.

    Args:
        overrides: Hydra's grammar, such as `["model=mlp", "optimizer.lr=0.1"]`.
        config_dirs: folders with further `model/`, `data/`, ... YAMLs; the code that they name must be trusted.
    Raises:
        UserError: an unknown group, option or key (with the nearest names), a value of the wrong kind, a pair of
            model and data that cannot meet, or code that is not trusted.
    """
    cfg, _ = compose_with_card(overrides, config_dirs)
    return cfg


def compose_with_card(
    overrides: Sequence[str] = (), config_dirs: Sequence[str | Path] = ()
) -> tuple[DictConfig, dict[str, Any]]:
    """`compose`, and the model's card beside it: paper, year, parameters and the dims of the paper."""
    raw = _compose_raw(overrides, config_dirs)
    try:
        return _finished(raw)
    except COMPOSING as error:
        raise UserError(f"the configuration cannot be used: {_one_line(error)}") from error


def _finished(raw: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
    for part in PARTS:
        if not isinstance(raw.get(part), DictConfig) or "_target_" not in raw[part]:
            raise UserError(f"{part}: a run needs one; dl-zoo train --help lists them")
    choices = raw.hydra.runtime.choices
    cfg = OmegaConf.create({key: raw._get_node(key) for key in raw if key != "hydra"})
    card: Any = OmegaConf.to_container(cfg.model.pop("card", OmegaConf.create({})), resolve=True)
    with open_dict(cfg):
        cfg.name = str(cfg.name or f"{choices.model}-{choices.data}")
        cfg.data_dir = str(Path(cfg.data_dir).expanduser().absolute())
        _apply_regularizers(cfg, choices.model)
        _agree_on_image_size(cfg, card, choices.model)
    _check_values(cfg)
    check_targets(cfg, "the configuration")
    return cfg, card


def _compose_raw(overrides: Sequence[str], config_dirs: Sequence[str | Path]) -> DictConfig:
    for folder in config_dirs:
        if not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder")
    paths = ",".join(f"file://{Path(folder).absolute()}" for folder in config_dirs)
    search = [f"hydra.searchpath=[{paths}]"] if paths else []
    GlobalHydra.instance().clear()
    overrides = [
        f"++{text}" if text.startswith("weights_map") else text for text in overrides
    ]  # new keys are its point
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        try:
            raw = hydra_compose("train", [*overrides, *search], return_hydra_config=True)
            _check_hydra(raw.hydra)
            return raw
        except COMPOSING as error:
            raise _explain(error, overrides, search) from error


def _explain(error: Exception, overrides: Sequence[str], search: list[str]) -> UserError:
    """Find the first override at fault and name what it could have been."""
    good: list[str] = []
    loader = GlobalHydra.instance().config_loader()
    for text in overrides:
        try:
            hydra_compose("train", [*good, text, *search], return_hydra_config=True)
            good.append(text)
        except COMPOSING as at_fault:
            try:
                override = OverridesParser.create().parse_override(text)
            except HydraException:
                return UserError(f"{text!r} is not of the form key=value, group=option or group=[option,option]")
            known = hydra_compose("train", [*good, *search], return_hydra_config=True)
            return _explain_one(override, known, loader, at_fault)
    return UserError(_one_line(error))


def _explain_one(override: Override, known: DictConfig, loader: Any, error: Exception) -> UserError:
    key = override.key_or_group
    groups = [group for group in loader.list_groups("") if group != "hydra"]
    if key in groups:
        options = loader.get_group_options(key)
        values = override.value() if isinstance(override.value(), list) else [override.value()]
        wrong = next((str(value) for value in values if str(value) not in options), None)
        if wrong is not None:
            return UserError(f"{key}={wrong}: there is no such {key}; {nearest(wrong, options)}")
        return UserError(f"{key}={override.value()}: {_one_line(error)}")
    head, _, rest = key.partition(".")
    if head == "regularizer" and rest.split(".")[0] in loader.get_group_options("regularizer"):
        name = rest.split(".")[0]
        return UserError(f"{key}: regularizer {name} is not picked; add regularizer=[{name}]")
    keys = list(_flat_keys(OmegaConf.create({k: known._get_node(k) for k in known if k != "hydra"}))) + groups
    keys = [each for each in keys if not each.startswith("model.card")]
    if key not in keys:
        return UserError(f"{key}: there is no such key; {nearest(key, keys)}")
    return UserError(f"{override.input_line}: {_one_line(error)}")


def nearest(word: str, names: Iterable[str]) -> str:
    """
    >>> nearest("lenet", ["lenet5", "mlp"])
    'did you mean lenet5?'
    >>> nearest("zebra", ["lenet5", "mlp"])
    'there are lenet5, mlp'
    """
    names = sorted(set(names))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    if not close:  # `lr` finds `optimizer.lr`
        close = [name for name in names if name.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]][:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    top = [name for name in names if "." not in name]
    return f"there are {', '.join(top)}"


def _flat_keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        for key in node:
            yield f"{prefix}{key!s}"
            yield from _flat_keys(node._get_node(key), f"{prefix}{key!s}.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


# ---- what the parts of a configuration tell one another ---------------------------------------------------------


def _apply_regularizers(cfg: DictConfig, model: str) -> None:
    """Write each regularizer's `set: {path: value}` where it points; the node there must have that argument."""
    for name, node in cfg.regularizer.items():
        for path, value in node.pop("set", {}).items():
            head, key = path.split(".")[:2]
            if key not in cfg[head]:
                part = f"model {model}" if head == "model" else head
                raise UserError(f"regularizer={name} sets {path}, but {part} has no argument {key!r}; leave it out")
            OmegaConf.update(cfg, path, value, force_add=True)


def _agree_on_image_size(cfg: DictConfig, card: dict[str, Any], model: str) -> None:
    """A net of fixed size (its card states `image_size`) sets the size of the pictures; else they stay native."""
    data = cfg.data
    if "image_size" not in data:
        return
    fixed = card.get("dims", {}).get("image_size")
    if fixed and data.image_size not in (None, fixed):
        raise UserError(f"data.image_size={data.image_size}: {model} takes pictures of {fixed} pixels; leave it out")
    data.image_size = data.image_size or fixed
    if data.image_size is not None:
        data.dims.image_size = data.image_size
        data.dims.features = data.dims.channels * data.image_size**2


def resolve(cfg: DictConfig, dims: dict[str, Any]) -> DictConfig:
    """A copy without interpolations, once the data have told all of their `dims`."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))  # type: ignore[assignment]
    cfg.data.dims = dims
    missing = sorted(
        {name for name in re.findall(r"\$\{dims\.(\w+)\}", OmegaConf.to_yaml(cfg)) if dims.get(name) in (None, "???")}
    )
    if missing:
        raise UserError(f"{cfg.name}: the model needs {', '.join(missing)}, which this dataset does not have")
    OmegaConf.resolve(cfg)
    return cfg


def _check_values(cfg: DictConfig) -> None:
    bounds = {
        "data.batch_size": (int, 1),
        "seed": (int, 0),
        "trainer.max_epochs": (int, -1),
        "checkpoint_every": (float, 0),
        "optimizer.lr": (float, 0),
    }
    for path, (kind, least) in bounds.items():
        value = OmegaConf.select(cfg, path)
        number = isinstance(value, kind | int) and not isinstance(value, bool)
        if (value is not None or path == "seed") and not (number and value >= least):
            what = "a whole number" if kind is int else "a number"
            raise UserError(f"{path}={value}: must be {what} of at least {least}")
    if not isinstance(cfg.freeze, ListConfig):
        raise UserError(f"freeze={cfg.freeze}: must be a list, such as freeze=[{cfg.freeze}]")
    wrong = sorted(FORBIDDEN_IN_NAMES & set(cfg.name)) or [dots for dots in (".", "..") if cfg.name == dots]
    if wrong:
        raise UserError(f"name={cfg.name!r}: leave out {' '.join(map(repr, wrong))}; it becomes a folder's name")


# ---- which code may be imported ----------------------------------------------------------------------------------


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


def _check_hydra(section: DictConfig) -> None:
    """Hydra itself builds launcher, sweeper and callbacks of a sweep: they must be its plugins, or trusted."""
    for node in _mappings(section):
        target = node.get("_target_", "")
        plugin = re.fullmatch(r"(hydra\._internal\.core_plugins|hydra_plugins)(\.\w+)+(Launcher|Sweeper)", str(target))
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
    try:
        return instantiate(OmegaConf.create(content), _convert_="all", **({"_partial_": True} if partial else {}))
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        raise UserError(f"{node._target_}: {_one_line(cause or error)}") from error
