"""From words on the command line to one finished configuration.

Hydra composes; this file adds what Hydra leaves to its users: every mistake told together and with the nearest name,
the regularizers' bindings, and the sizes that model and data agree on (`dims`). Neither torch nor Lightning is imported
here, so a misspelt word is answered in a fraction of a second.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dl_zoo import pretrained, refusals, values
from dl_zoo.errors import UserError
from dl_zoo.options import CONFIGS, groups, names, nearest, read, resolve_model
from dl_zoo.trust import check_hydra, check_targets
from dl_zoo.values import typed

COMPOSING = (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError)  # what it may raise
PARTS = ("task", "data", "model", "optimizer", "initializer", "trainer")  # a run has one of each
LISTS = {"regularizer", "probe"}  # groups that take several options
SINGLE = set(groups()) - LISTS
OWN_KEYS = ("weights_map", "optimizer.lr_factors")  # mappings whose keys are the user's


# ---- composing -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Composed:
    """A configuration with its model's card, and everything that is wrong with it."""

    cfg: DictConfig
    card: dict[str, Any]  # paper, year, parameters and the dims of the paper
    mistakes: list[str]
    broken: set[str]  # groups whose choice is one of the mistakes: the default stands in its place
    choices: dict[str, str]  # group -> option, as Hydra picked them; of a list group the list in brackets


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
    cards = [text for text in overrides if re.match(r"[+~]*(model|task|data)\.card\b", text)]
    if cards:
        raise UserError(*(f"{text}: a card states facts, which are not to be set" for text in cards))
    raw, mistakes, broken = _compose_raw([for_hydra(text) for text in overrides], config_dirs)
    for part in PARTS:
        if not isinstance(raw.get(part), DictConfig) or "_target_" not in raw[part]:
            raise UserError(*mistakes, f"{part}: a run needs one; dl-zoo train --help lists them")
    try:
        return _finished(raw, raw.hydra.runtime.choices, mistakes, broken)
    except COMPOSING as error:
        raise UserError(*mistakes, f"the configuration cannot be used: {_one_line(error)}") from error


def finish(raw: DictConfig, choices: Mapping[str, Any]) -> DictConfig:
    """What Hydra has composed already, for a job of a sweep, as `compose` gives it. `choices`: group -> option."""
    try:
        composed = _finished(raw, choices, [], set())
    except COMPOSING as error:
        raise UserError(f"the configuration cannot be used: {_one_line(error)}") from error
    if composed.mistakes:
        raise UserError(*composed.mistakes)
    return composed.cfg


def _finished(raw: DictConfig, picked: Mapping[str, Any], mistakes: list[str], broken: set[str]) -> Composed:
    choices = {str(group): str(option) for group, option in picked.items()}
    cfg = OmegaConf.create({key: raw._get_node(key) for key in raw if key != "hydra"})
    cards: dict[str, Any] = {part: _popped(cfg[part], "card") for part in ("model", "task", "data")}
    card = cards["model"]
    with open_dict(cfg):
        cfg.name = str(cfg.name or f"{choices['model']}-{choices['data']}")
        cfg.data_dir = str(Path(cfg.data_dir).expanduser().absolute())
        _leave_out_unpicked(cfg)
        mistakes += _name_weights(cfg, choices["model"])
        mistakes += _apply_regularizers(cfg, {g: o for g, o in choices.items() if g not in broken})
        if not broken & {"model", "data"}:
            mistakes += _agree_on_image_size(cfg, card, choices["model"])
            mistakes += _agree_on_lengths(cfg, cards, choices)
            plain: Any = OmegaConf.to_container(cfg, resolve=False)
            mistakes += values.not_the_datas(plain, choices)
            asking, dims = [plain["model"], plain["task"]], plain["data"]["dims"]
            misfits = list(refusals.of_dims(choices["model"], asking, card, choices["data"], dims))
            misfits = misfits or list(
                refusals.of_targets(choices["task"], cards["task"], choices["data"], cards["data"])
            )
            misfits += refusals.of_answers(choices["task"], cards["task"], choices["model"], card, plain["model"])
            misfits += refusals.of_loss(cards["task"], plain["task"])
            mistakes += misfits
            broken |= {"model", "task"} if misfits else set()  # they hold what cannot be resolved
    mistakes += values.out_of_bounds(cfg)
    mistakes += values.of_another_kind(cfg, {g: o for g, o in choices.items() if g not in broken})
    try:
        check_targets(cfg, "the configuration")
    except UserError as error:
        mistakes.append(str(error))
    return Composed(cfg, card, list(dict.fromkeys(mistakes)), broken, choices)


def _popped(node: DictConfig, key: str) -> Any:
    popped = node.pop(key, None)
    return OmegaConf.to_container(popped, resolve=True) if isinstance(popped, DictConfig) else {}


def for_hydra(text: str) -> str:
    """An override as Hydra understands it: `model=lenet` means `model=lenet5`, and `weights_map` takes new keys."""
    key, _, value = text.partition("=")
    if key == "model":  # cards list what people also type; in a sweep there are several
        return f"model={','.join(map(resolve_model, value.split(',')))}"
    return f"++{text}" if text.startswith(OWN_KEYS) else text


def _compose_raw(overrides: Sequence[str], config_dirs: Sequence[str | Path]) -> tuple[DictConfig, list[str], set[str]]:
    """What Hydra makes of the overrides that it understands, what is wrong with the others, and groups left open."""
    for folder in config_dirs:
        if not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder")
    paths = ",".join(f"file://{Path(folder).absolute()}" for folder in config_dirs)
    search = [f"hydra.searchpath=[{paths}]"] if paths else []
    GlobalHydra.instance().clear()
    to_hydra = [text for text in overrides if text.lstrip("+~").startswith(("hydra/", "hydra."))]
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        try:
            if any(text.partition("=")[2].startswith("[") and text.partition("=")[0] in SINGLE for text in overrides):
                raise TypeError  # Hydra would merge the options into one
            raw = hydra_compose("train", [*overrides, *search], return_hydra_config=True)
            mistakes: list[str] = []
            broken: set[str] = set()
        except COMPOSING as error:
            known, mistakes, broken = _sort_out(overrides, search)
            if not mistakes:
                raise UserError(_one_line(error)) from error
            raw = known()
        check_hydra(raw.hydra)
        if search:  # a stranger's file may say nothing to Hydra itself: it would obey, before we have looked
            usual = hydra_compose("train", to_hydra, return_hydra_config=True)
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


def _sort_out(texts: Sequence[str], search: list[str]) -> tuple[Callable[[], DictConfig], list[str], set[str]]:
    """What the good overrides compose to, a line on each of the others, and the groups whose choice is among those.

    Choices are tried first, since values depend on them; a value below a group that is left open cannot be judged.
    """
    loader = GlobalHydra.instance().config_loader()
    groups = {group for group in loader.list_groups("") if group != "hydra"}
    good: list[str] = []
    wrong: dict[str, str] = {}
    broken: set[str] = set()

    @lru_cache
    def composed(*overrides: str) -> DictConfig:
        return hydra_compose("train", [*overrides, *search], return_hydra_config=True)

    def known() -> DictConfig:
        return composed(*good)

    for text in sorted(texts, key=lambda text: _group_of(text) not in groups):
        group = _group_of(text)
        if group not in groups and broken & {"experiment", group.split(".")[0]}:
            continue
        try:
            if group in SINGLE and text.partition("=")[2].startswith("["):
                raise TypeError(f"{group} takes one option; only probe and regularizer take lists")
            composed(*good, text)
            good.append(text)
        except COMPOSING as error:
            wrong[text] = _explain(text, known, groups, error)
            broken |= {group} & groups
    return known, [wrong[t] for t in texts if t in wrong], broken


def _group_of(text: str) -> str:
    return text.lstrip("+~").partition("=")[0].partition("@")[0]


def _explain(text: str, compose_known: Callable[[], DictConfig], groups: set[str], error: Exception) -> str:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        return f"{text!r} is not of the form key=value, group=option or group=[option,option]"
    key, shown = override.key_or_group, text.lstrip("+")
    if override.is_sweep_override():
        return f"{shown}: several values make a sweep: dl-zoo train -m"
    if key in groups:
        return _explain_choice(override, GlobalHydra.instance().config_loader().get_group_options(key), error)
    known = compose_known()
    name = key.partition(".")[2].partition(".")[0]
    listed = key.partition(".")[0]
    if listed in LISTS and "." in key and name in names(listed) and name not in known[listed]:
        return f"{key}: {listed} {name} is not picked; add {listed}=[{name}]"
    keys = [*_flat_keys(OmegaConf.create({k: known._get_node(k) for k in known if k != "hydra"})), *sorted(groups)]
    keys = [each for each in keys if not re.match(r"(model|task|data)\.card|regularizer\.\w+\.(set|not_with)", each)]
    if key not in keys:
        other_task = f"task {known.hydra.runtime.choices['task']} has no argument 'loss'"
        return other_task if key == "task.loss" else f"{key}: there is no such key; {nearest(key, keys)}"
    return f"{shown}: {_one_line(error)}"


def _explain_choice(override: Override, options: list[str], error: Exception) -> str:
    group = override.key_or_group
    if group == "claim":
        return f"claim={override.value()}: a claim is several runs; dl-zoo reproduce claim={override.value()}"
    picked = override.value() if isinstance(override.value(), list) else [override.value()]
    wrong = [typed(value) for value in picked if str(value) not in options]
    if wrong:
        hints = "; ".join(dict.fromkeys(nearest(value, options) for value in wrong))
        return f"{group}={','.join(wrong)}: there is no such {group}; {hints}"
    return f"{group}={','.join(map(str, picked))}: {_one_line(error)}"


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
    for group in sorted(LISTS):
        for name, node in plain[group].items():
            if not isinstance(node, dict):
                return [f"{group}.{name}={typed(node)}: there is no such {group}; {group}=[...] picks them"]
    mistakes = refusals.of_regularizers(plain["regularizer"], parts, choices)
    for node in cfg.regularizer.values():
        node.pop("not_with", None)
        for path, value in node.pop("set", {}).items():
            if not mistakes:
                OmegaConf.update(cfg, path, value, force_add=True)
    return mistakes


def _leave_out_unpicked(cfg: DictConfig) -> None:
    """Numbers that an experiment states of regularizers which the command line has replaced by others.

    Hydra does not tell which options of a list were picked; what was not lacks most of its keys.
    """
    for name in [str(name) for name in cfg.regularizer if name in names("regularizer")]:
        node = cfg.regularizer[name]
        if isinstance(node, DictConfig) and read("regularizer", name)[name].keys() - node.keys():
            del cfg.regularizer[name]


def _name_weights(cfg: DictConfig, model: str) -> list[str]:
    """`weights=torchvision` becomes the full name of a file, so that the stored configuration says which."""
    if not pretrained.is_named(cfg.weights):
        return []
    try:
        cfg.weights = pretrained.full_name(cfg.weights, model)
    except UserError as error:
        return [str(error)]
    if cfg.weights.startswith("torchvision") and cfg.model.get("stride_in", "3x3") != "3x3":
        return [pretrained.OTHER_STRIDE.format(cfg.model.stride_in)]
    halves = [0.5, 0.5, 0.5]  # what torchvision's GoogLeNet was trained with
    if (
        cfg.weights.startswith("torchvision:googlenet")
        and [*cfg.data.get("mean", []), *cfg.data.get("std", [])] != 2 * halves
    ):
        return [f"weights={cfg.weights} know pictures of mean and deviation 0.5: data.mean={halves} data.std={halves}"]
    return []


def _agree_on_lengths(cfg: DictConfig, cards: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """Sequences come with their lengths where net and task, by their cards, take them."""
    takers = [part for part in ("model", "task") if cards[part].get("lengths")]
    if "lengths" not in cfg.data:
        return []
    if cfg.data.lengths and len(takers) < 2:
        other = next(part for part in ("model", "task") if part not in takers)
        return [f"data.lengths={cfg.data.lengths}: {other}={choices[other]} takes no lengths; leave it out"]
    if cfg.data.lengths is None:
        cfg.data.lengths = len(takers) == 2
    return []


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
        {
            name
            for name in re.findall(r"\$\{dims\.(\w+)\}", OmegaConf.to_yaml(cfg))
            if not refusals.stated(dims, name) or dims[name] == "???"
        }
    )
    if missing:
        raise UserError(f"{cfg.name}: the model needs {', '.join(missing)}, which this dataset does not have")
    OmegaConf.resolve(cfg)
    return cfg


def without(node: DictConfig, key: str) -> DictConfig:
    """A copy that lacks one key."""
    return OmegaConf.create({name: node[name] for name in node if name != key})


def with_values(cfg: DictConfig, others: Mapping[str, Any]) -> DictConfig:
    """A copy with other values at these dotted keys."""
    cfg = cfg.copy()
    with open_dict(cfg):
        for path, value in others.items():
            OmegaConf.update(cfg, path, value)
    return cfg
