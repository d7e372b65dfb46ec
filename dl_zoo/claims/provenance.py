"""Is a stored result still what the code would give? Hashes of what it was made by, compared with what is there now.

- code: the syntax trees, without docstrings, of the modules that the arms' `_target_`s name, of those they import, and
  of the training loop;
- configuration: each arm's, without what may differ between a run and its continuation. Composing one takes a tenth of
  a second, so the YAMLs it was composed of are compared first;
- the card, and torch's minor version.

A difference makes a result stale, not wrong: nothing says that its verdict would change.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dl_zoo.claims import card
from dl_zoo.errors import UserError
from dl_zoo.options import CONFIGS, LOADER

PACKAGE = Path(__file__).parents[1]
LOOP = tuple(  # what every arm is trained, tested and probed by; `run` and `compose` show in the configuration's hash
    f"dl_zoo.{name}" for name in ("loop", "tasks.task", "optimizers", "callbacks.survival", "checkpoints", "probing")
)
PARTS = r"dl_zoo\.(models|tasks|data|callbacks|regularizers|probes|from_scratch|initializers|schedules|optimizers|loop"
PARTS += r"|checkpoints|probing|matching|pretrained|stages|freezing|decoding|through_time|measures|features|making)\b"


def of_content(value: Any) -> str:
    """A short hash of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


# ---- code ---------------------------------------------------------------------------------------------------------


def of_code(targets: Iterable[str]) -> str:
    """A hash of the code behind these `_target_`s; of a library's own, its version is not looked at."""
    modules: set[Path] = set()
    waiting = [*LOOP, *targets]
    while waiting:
        path = file_of(waiting.pop())
        if path and path not in modules:
            modules.add(path)
            waiting += module_of(path).imports
    return of_content(sorted([name_of(path), module_of(path).tree] for path in modules))


@cache
def file_of(name: str) -> Path | None:
    """The file of a module of ours, or of a thing in one; None for what is not one of the parts of a run."""
    if not re.match(PARTS, name):
        return None
    place = PACKAGE.joinpath(*name.split(".")[1:])
    tried = [place.with_suffix(".py"), place / "__init__.py"]
    if place.parent != PACKAGE:  # a thing in a module
        tried += [place.parent.with_suffix(".py"), place.parent / "__init__.py"]
    return next((path for path in tried if path.is_file()), None)


@cache
def name_of(path: Path) -> str:
    return ".".join(["dl_zoo", *path.relative_to(PACKAGE).with_suffix("").parts])


class Module(NamedTuple):
    imports: tuple[str, ...]  # parts of a run, or things in them
    tree: str  # a hash of the syntax tree, without comments, docstrings and layout, alike in any version of Python


@cache
def module_of(path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports: list[str] = []
    for node in statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and _is_docstring(node.body[:1]):
            node.body = node.body[1:]
    return Module(tuple(name for name in imports if file_of(name)), of_content(shape_of(tree)))


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """The module and every statement in it. `ast.walk` would visit expressions, too, which are ten times as many."""
    found: list[ast.AST] = [tree]
    for node in found:
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            children = getattr(node, field, None)
            found += children if isinstance(children, list) else []  # a lambda's body is none
    yield from found


def _is_docstring(first: Sequence[ast.stmt]) -> bool:
    found = first and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant)
    return bool(found and isinstance(first[0].value.value, str))  # type: ignore[attr-defined]


def shape_of(node: Any) -> Any:
    """A tree as nested lists, without empty fields, which come and go with versions of Python."""
    if isinstance(node, ast.AST):
        fields = [[name, shape_of(value)] for name, value in ast.iter_fields(node) if value not in (None, [])]
        return [type(node).__name__, *fields]
    return [shape_of(child) for child in node] if isinstance(node, list) else repr(node)


# ---- configuration --------------------------------------------------------------------------------------------------


def of_config(config: Mapping[str, Any], free_keys: Sequence[str]) -> str:
    """A hash of one arm's configuration, without these dotted keys, its seed and what is empty."""
    return of_content(_kept(config, [*free_keys, "seed", "name", "tier"]))


def _kept(node: Mapping[str, Any], free: Sequence[str], prefix: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in node.items():
        path = f"{prefix}{key}"
        child = _kept(value, free, f"{path}.") if isinstance(value, Mapping) else value
        if path not in free and child is not False and child not in (None, {}, []):  # a new switch changes nothing
            kept[str(key)] = child
    return kept


def targets_in(node: Any) -> Iterator[str]:
    """Every `_target_`, at any depth."""
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else []
    if isinstance(node, Mapping) and isinstance(node.get("_target_"), str):
        yield node["_target_"]
    for child in children:
        yield from targets_in(child)


def of_sources(choices: Mapping[str, Any]) -> str:
    """A hash of the YAMLs that these options (group -> option, or options) were read from, without their comments.

    Cards of data and tasks say what goes together, and are no part of a run; a model's has the size of its pictures.
    """
    files = [CONFIGS / "train.yaml"]
    for group, picked in sorted(choices.items()):
        for option in picked if isinstance(picked, list) else [picked]:
            files += _with_those_below(CONFIGS / group / f"{option}.yaml")
    return of_content([[path.name, _of_a_run(path)] for path in files if path.is_file()])


def _of_a_run(path: Path) -> dict[str, Any]:
    return {key: value for key, value in _yaml(path).items() if key != "card" or path.parent.name == "model"}


def _with_those_below(path: Path) -> list[Path]:
    """An option's file, and those of its group that it builds on."""
    below = [each for each in _yaml(path).get("defaults", []) if isinstance(each, str) and each != "_self_"]
    return [path, *(file for name in below for file in _with_those_below(path.with_name(f"{name}.yaml")))]


@cache
def _yaml(path: Path) -> Mapping[str, Any]:
    return (yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER) or {}) if path.is_file() else {}


# ---- what is stale ------------------------------------------------------------------------------------------------


@cache
def torch_minor() -> str:
    """Of the installed torch, which is not imported: `2.14`; nothing where there is none."""
    try:
        return ".".join(version("torch").split(".")[:2])
    except PackageNotFoundError:
        return ""


def of_card(content: Mapping[str, Any], tier: str) -> str:
    """A hash of what a card says about one tier; its words may be polished."""
    tiers = (content.get("tiers") or {}).get(tier) or {}
    said = {key: content.get(key) for key in ("arms", "sabotage", "seeds", "rule")}
    said |= {"folds": content["folds"]} if content.get("folds") else {}
    return of_content([said, tiers.get("overrides"), tiers.get("seeds"), content.get("departs") is None])


def stale(content: Mapping[str, Any]) -> list[str]:
    """Why a stored result may not be what a run would give today; nothing if it is."""
    try:
        now = card.stated(content["id"])
    except UserError:  # of a folder of one's own, or not there any more
        now = content["card"]
    reasons = [] if of_card(now, content["tier"]) == of_card(content["card"], content["tier"]) else ["card"]
    arms = [*content["arms"].values(), *content["sabotage"].values()]
    if any(of_code(arm["targets"]) != arm["code_hash"] for arm in arms):
        reasons.append("code")
    if any(not _composes_alike(arm) for arm in arms):
        reasons.append("configuration")
    if content["environment"]["torch"] != torch_minor():
        reasons.append(f"torch {content['environment']['torch']}")
    return reasons


def _composes_alike(arm: Mapping[str, Any]) -> bool:
    if of_sources(arm["choices"]) == arm["sources_hash"]:
        return True
    from dl_zoo.compose import compose
    from dl_zoo.folder import MAY_DIFFER

    try:
        return config_hash(compose(arm["overrides"]), MAY_DIFFER) == arm["config_hash"]
    except UserError:  # it does not compose any more
        return False


def config_hash(cfg: Any, free_keys: Sequence[str]) -> str:
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(cfg, resolve=False)
    return of_config(content, free_keys)
