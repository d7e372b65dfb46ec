"""From words on the command line to one finished configuration.

Hydra composes; this file adds what Hydra leaves to its users: every mistake told together and with the nearest name,
the regularizers' bindings, and the sizes that model and data agree on (`dims`). Neither torch nor Lightning is imported
here, so a misspelt word is answered in a fraction of a second.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dl_zoo import refusals
from dl_zoo.errors import UserError
from dl_zoo.options import CONFIGS, groups, names, nearest, read, resolve_model
from dl_zoo.trust import check_hydra, check_targets

FORBIDDEN_IN_NAMES = set("=,:(){}[] /\\")
COMPOSING = (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError)  # what it may raise
PARTS = ("task", "data", "model", "optimizer", "initializer", "trainer")  # a run has one of each
BOUNDS: dict[str, tuple[type, float]] = {  # of what may be wrong before anything is built: its kind, its least value
    "data.batch_size": (int, 1),
    "seed": (int, 0),
    "trainer.max_epochs": (int, -1),
    "trainer.max_steps": (int, -1),
    "trainer.accumulate_grad_batches": (int, 1),
    "trainer.limit_train_batches": (float, 0),
    "checkpoint_every": (float, 0),
    "optimizer.lr": (float, 0),
}
KINDS_CHECKED = ("task", "data", "model", "optimizer", "scheduler", "initializer")
OWN_KEYS = ("weights_map",)  # mappings whose keys are the user's


# ---- composing -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Composed:
    """A configuration with its model's card, and everything that is wrong with it."""

    cfg: DictConfig
    card: dict[str, Any]  # paper, year, parameters and the dims of the paper
    mistakes: list[str]
    broken: set[str]  # groups whose choice is one of the mistakes: the default stands in its place


def compose(overrides: Sequence[str] = (), config_dirs: Sequence[str | Path] = ()) -> DictConfig:
    """The finished configuration of one run: what `run` takes and what `config.yaml` keeps.

    Args:
        overrides: Hydra's grammar, such as `["model=mlp", "optimizer.lr=0.1"]`.
        config_dirs: folders with further `model/`, `data/`, ... YAMLs; the code that they name must be trusted.
    Raises:
        UserError: unknown groups, options or keys (with the nearest names), values of the wrong kind, parts that
            cannot meet, or code that is not trusted; one line each.
    """
    return compose_with_card(overrides, config_dirs)[0]


def compose_with_card(
    overrides: Sequence[str] = (), config_dirs: Sequence[str | Path] = ()
) -> tuple[DictConfig, dict[str, Any]]:
    """`compose`, and the model's card beside it."""
    composed = inspect(overrides, config_dirs)
    if composed.mistakes:
        raise UserError(*composed.mistakes)
    return composed.cfg, composed.card


def inspect(overrides: Sequence[str] = (), config_dirs: Sequence[str | Path] = ()) -> Composed:
    """Compose what can be composed, and collect the mistakes instead of stopping at the first.

    Raises:
        UserError: there is nothing to compose: a part is missing, or a value cannot be read at all.
    """
    raw, mistakes, broken = _compose_raw([_with_own_name(text) for text in overrides], config_dirs)
    for part in PARTS:
        if not isinstance(raw.get(part), DictConfig) or "_target_" not in raw[part]:
            raise UserError(*mistakes, f"{part}: a run needs one; dl-zoo train --help lists them")
    try:
        return _finished(raw, mistakes, broken)
    except COMPOSING as error:
        raise UserError(*mistakes, f"the configuration cannot be used: {_one_line(error)}") from error


def _finished(raw: DictConfig, mistakes: list[str], broken: set[str]) -> Composed:
    choices = {str(group): str(option) for group, option in raw.hydra.runtime.choices.items()}
    cfg = OmegaConf.create({key: raw._get_node(key) for key in raw if key != "hydra"})
    card: Any = OmegaConf.to_container(cfg.model.pop("card", OmegaConf.create({})), resolve=True)
    with open_dict(cfg):
        cfg.name = str(cfg.name or f"{choices['model']}-{choices['data']}")
        cfg.data_dir = str(Path(cfg.data_dir).expanduser().absolute())
        mistakes += _apply_regularizers(cfg, {g: o for g, o in choices.items() if g not in broken})
        if not broken & {"model", "data"}:
            mistakes += _agree_on_image_size(cfg, card, choices["model"])
            plain: Any = OmegaConf.to_container(cfg, resolve=False)
            mistakes += _not_the_datas(plain, choices)
            mistakes += refusals.of_dims(
                choices["model"], [plain["model"], plain["task"]], card, choices["data"], plain["data"]["dims"]
            )
    mistakes += _wrong_values(cfg)
    mistakes += _wrong_kinds(cfg, choices)
    try:
        check_targets(cfg, "the configuration")
    except UserError as error:
        mistakes.append(str(error))
    return Composed(cfg, card, list(dict.fromkeys(mistakes)), broken)


def _with_own_name(text: str) -> str:
    """`model=lenet` means `model=lenet5`: cards list what people also type."""
    key, _, name = text.partition("=")
    return f"model={resolve_model(name)}" if key == "model" else text


def _compose_raw(overrides: Sequence[str], config_dirs: Sequence[str | Path]) -> tuple[DictConfig, list[str], set[str]]:
    """What Hydra makes of the overrides that it understands, what is wrong with the others, and groups left open."""
    for folder in config_dirs:
        if not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder")
    paths = ",".join(f"file://{Path(folder).absolute()}" for folder in config_dirs)
    search = [f"hydra.searchpath=[{paths}]"] if paths else []
    GlobalHydra.instance().clear()
    texts = [f"++{text}" if text.startswith(OWN_KEYS) else text for text in overrides]
    for text in overrides:
        group, _, value = text.partition("=")
        if value.startswith("[") and group in groups() and group != "regularizer":
            raise UserError(f"{text}: {group} takes one option; only regularizer takes a list")
    typed = [text for text in texts if text.lstrip("+~").startswith(("hydra/", "hydra."))]
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        try:
            raw = hydra_compose("train", [*texts, *search], return_hydra_config=True)
            mistakes: list[str] = []
            broken: set[str] = set()
        except COMPOSING as error:
            good, mistakes, broken = _sort_out(texts, search)
            if not mistakes:
                raise UserError(_one_line(error)) from error
            raw = hydra_compose("train", [*good, *search], return_hydra_config=True)
        check_hydra(raw.hydra)
        if search:  # a stranger's file may say nothing to Hydra itself: it would obey, before we have looked
            usual = hydra_compose("train", typed, return_hydra_config=True)
            if _told_to_hydra(raw) != _told_to_hydra(usual):
                raise UserError("a file in --config-dir changes the hydra section; only the command line may")
        return raw, mistakes, broken


def _told_to_hydra(raw: DictConfig) -> dict[str, Any]:
    """Hydra's own section without what it fills in for each run."""
    section: Any = OmegaConf.to_container(raw.hydra, resolve=False)
    for key in ("runtime", "overrides", "searchpath"):
        del section[key]
    section["job"] = {key: value for key, value in section["job"].items() if key != "override_dirname"}
    return section


def _sort_out(texts: Sequence[str], search: list[str]) -> tuple[list[str], list[str], set[str]]:
    """The overrides that compose, a line on each that does not, and the groups whose choice is among those.

    Choices are tried first, since values depend on them; a value below a group that is left open cannot be judged.
    """
    loader = GlobalHydra.instance().config_loader()
    groups = {group for group in loader.list_groups("") if group != "hydra"}
    good: list[str] = []
    wrong: dict[str, str] = {}
    broken: set[str] = set()
    for text in sorted(texts, key=lambda text: _group_of(text) not in groups):
        group = _group_of(text)
        if group not in groups and broken & {"experiment", group.split(".")[0]}:
            continue
        try:
            hydra_compose("train", [*good, text, *search], return_hydra_config=True)
            good.append(text)
        except COMPOSING as error:
            wrong[text] = _explain(text, [*good, *search], groups, error)
            broken |= {group} & groups
    return [t for t in texts if t in good], [wrong[t] for t in texts if t in wrong], broken


def _group_of(text: str) -> str:
    return text.lstrip("+~").partition("=")[0].partition("@")[0]


def _explain(text: str, good: list[str], groups: set[str], error: Exception) -> str:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        return f"{text!r} is not of the form key=value, group=option or group=[option,option]"
    key, shown = override.key_or_group, text.lstrip("+")
    if override.is_sweep_override():
        return f"{shown}: several values make a sweep: dl-zoo train -m"
    if key in groups:
        return _explain_choice(override, GlobalHydra.instance().config_loader().get_group_options(key), error)
    known = hydra_compose("train", good, return_hydra_config=True)
    name = key.partition(".")[2].partition(".")[0]
    if key.startswith("regularizer.") and name in names("regularizer") and name not in known.regularizer:
        return f"{key}: regularizer {name} is not picked; add regularizer=[{name}]"
    keys = [*_flat_keys(OmegaConf.create({k: known._get_node(k) for k in known if k != "hydra"})), *sorted(groups)]
    keys = [each for each in keys if not re.match(r"model\.card|regularizer\.\w+\.(set|not_with)", each)]
    if key not in keys:
        return f"{key}: there is no such key; {nearest(key, keys)}"
    return f"{shown}: {_one_line(error)}"


def _explain_choice(override: Override, options: list[str], error: Exception) -> str:
    group = override.key_or_group
    values = override.value() if isinstance(override.value(), list) else [override.value()]
    wrong = [str(_typed(value)) for value in values if str(value) not in options]
    if wrong:
        hints = "; ".join(dict.fromkeys(nearest(value, options) for value in wrong))
        return f"{group}={','.join(wrong)}: there is no such {group}; {hints}"
    return f"{group}={','.join(map(str, values))}: {_one_line(error)}"


def _flat_keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        for key in node:
            yield f"{prefix}{key!s}"
            yield from _flat_keys(node._get_node(key), f"{prefix}{key!s}.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


# ---- what the parts of a configuration tell one another ---------------------------------------------------------


def _apply_regularizers(cfg: DictConfig, choices: dict[str, str]) -> list[str]:
    """Write each regularizer's `set: {path: value}` where it points; what cannot be written is told."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    parts = {head: plain[head] for head in PARTS if head in choices}
    for name, node in plain["regularizer"].items():
        if not isinstance(node, dict):
            return [f"regularizer.{name}={_typed(node)}: there is no such regularizer; regularizer=[...] picks them"]
    mistakes = refusals.of_regularizers(plain["regularizer"], parts, choices)
    for node in cfg.regularizer.values():
        node.pop("not_with", None)
        for path, value in node.pop("set", {}).items():
            if not mistakes:
                OmegaConf.update(cfg, path, value, force_add=True)
    return mistakes


def _agree_on_image_size(cfg: DictConfig, card: dict[str, Any], model: str) -> list[str]:
    """A net of fixed size (its card states `image_size`) sets the size of the pictures; else they stay native."""
    data = cfg.data
    if "image_size" not in data:
        return []
    fixed = card.get("dims", {}).get("image_size")
    if fixed and data.image_size not in (None, fixed):
        return [f"data.image_size={data.image_size}: {model} takes pictures of {fixed} pixels; leave it out"]
    data.image_size = data.image_size or fixed
    if isinstance(data.image_size, int):
        data.dims.image_size = data.image_size
        data.dims.features = data.dims.channels * data.image_size**2
    return []


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


def _not_the_datas(plain: Mapping[str, Any], choices: Mapping[str, str]) -> Iterator[str]:
    """Sizes of the net that were typed and do not fit the data: `model.channels=3` where pictures have one."""
    asked = read("model", choices["model"]) if choices["model"] in names("model") else {}
    for key, stated in asked.items():
        dim = re.fullmatch(r"\$\{dims\.(\w+)\}", str(stated))
        value, fact = plain["model"].get(key), plain["data"]["dims"].get(dim[1]) if dim else None
        if not isinstance(fact, int) or not isinstance(value, int) or value == fact:
            continue
        embeds = plain["task"].get("loss") in ("contrastive", "triplet")
        if key != "num_classes" or (value < fact and not embeds):
            yield f"model.{key}={value}: data={choices['data']} has {fact}; leave it out"


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy with other values at these dotted keys."""
    cfg = cfg.copy()
    with open_dict(cfg):
        for path, value in values.items():
            OmegaConf.update(cfg, path, value)
    return cfg


def _wrong_values(cfg: DictConfig) -> Iterator[str]:
    for path, (kind, least) in BOUNDS.items():
        value = OmegaConf.select(cfg, path, default=least)  # a Trainer of the user's own may lack it
        if path == "trainer.limit_train_batches" and value is None:
            continue
        number = isinstance(value, kind | int) and not isinstance(value, bool)
        if not (number and value >= least):
            what = "a whole number" if kind is int else "a number"
            yield f"{path}={_typed(value)}: must be {what} of at least {least}"
    for path in ("trainer.max_epochs", "trainer.max_steps", "trainer.limit_train_batches"):
        if OmegaConf.select(cfg, path) == 0:
            yield f"{path}=0: trains nothing; dl-zoo evaluate measures a run, dl-zoo check tries one"
    if isinstance(cfg.seed, int) and cfg.seed >= 2**32:
        yield f"seed={cfg.seed}: must be below 2^32"
    lbfgs = cfg.optimizer._target_ == "torch.optim.LBFGS"
    if lbfgs and cfg.trainer.get("accumulate_grad_batches", 1) != 1:
        yield "trainer.accumulate_grad_batches: L-BFGS takes whole batches; raise data.batch_size instead"
    endless = all(OmegaConf.select(cfg, f"trainer.{key}") in (None, -1) for key in ("max_epochs", "max_steps"))
    if endless and needs_length(cfg):
        what = "regularizer=swa" if "swa" in cfg.regularizer else "the scheduler"
        yield f"trainer.max_epochs=-1: {what} needs the length of the run; set trainer.max_epochs"
    for path in ("diagnostics", "pictures"):
        if not isinstance(OmegaConf.select(cfg, path), bool):
            yield f"{path}={OmegaConf.select(cfg, path)}: must be true or false"
    if not isinstance(cfg.freeze, ListConfig):
        yield f"freeze={_typed(cfg.freeze)}: must be a list, such as freeze=[{cfg.freeze or ''}]"
    wrong = sorted(FORBIDDEN_IN_NAMES & set(cfg.name)) or [dots for dots in (".", "..") if cfg.name == dots]
    if wrong:
        yield f"name={cfg.name!r}: leave out {' '.join(map(repr, wrong))}; it becomes a folder's name"


def needs_length(cfg: DictConfig) -> bool:
    """Is a part of the run laid out over its length? Then it cannot be trained longer as if it had been meant to."""
    schedule = str((cfg.scheduler or {}).get("_target_", ""))
    return bool(schedule and not schedule.endswith(".plateau")) or "swa" in cfg.regularizer


def _wrong_kinds(cfg: DictConfig, choices: Mapping[str, str]) -> Iterator[str]:
    """Words where an option's YAML states a number or a switch. Lightning's own arguments are left to Lightning."""
    picked = [(group, group, name) for group, name in choices.items() if group in KINDS_CHECKED]
    picked += [(f"regularizer.{name}", "regularizer", name) for name in cfg.regularizer]
    for path, group, name in picked:
        if name not in names(group):
            continue  # of a folder of the user's own
        stated = read(group, name).get(name, {}) if group == "regularizer" else read(group, name)
        for key, usual in stated.items():
            value = OmegaConf.select(cfg, f"{path}.{key}")
            if f"{path}.{key}" not in BOUNDS and (kind := _missed_kind(usual, value)):
                yield f"{path}.{key}={_typed(value)}: must be {kind}"


def _missed_kind(usual: Any, value: Any) -> str:
    """What a value should be to be like the usual one; nothing where it is, or where anything may be.

    >>> _missed_kind(0.5, "big"), _missed_kind(True, 1), _missed_kind([0.9, 0.999], 0.9), _missed_kind("relu", "tanh")
    ('a number', 'true or false', 'a list of numbers', '')
    """
    if isinstance(usual, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(usual, int | float):
        return "a number" if value is None or isinstance(value, str | bool) else ""
    if isinstance(usual, list) and usual and all(isinstance(each, int | float) for each in usual):
        fine = isinstance(value, list | ListConfig) and not any(isinstance(each, str | None) for each in value)
        return "" if fine else "a list of numbers"
    return ""


def _typed(value: Any) -> str:
    """As one types it on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
