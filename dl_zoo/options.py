"""What the command line can pick: a group is a folder of YAMLs, an option is one of them. Read here without Hydra."""

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).parent
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"  # wheel, or clone


def groups() -> list[str]:
    """What a run is put together from. A claim's card is none of it: it names several runs."""
    return sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "claim")


def names(group: str) -> list[str]:
    """The options of a group; [] where there is no such group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@cache
def read(group: str, name: str) -> Mapping[str, Any]:
    """An option as its file states it, over the options of the same group that its `defaults` list. Do not change it.

    Interpolations stay as they are written.
    """
    stated = yaml.load((CONFIGS / group / f"{name}.yaml").read_text(encoding="utf-8"), Loader=LOADER) or {}
    below: dict[str, Any] = {}
    for other in stated.pop("defaults", []):
        if isinstance(other, str) and other != "_self_":
            below |= read(group, other)
    return below | stated


def plain_yaml(text: str) -> Any:
    """A stranger's YAML as plain data. Raises ValueError, or one of yaml's errors."""
    _check_shape(text)
    return yaml.load(text, LOADER)


def _check_shape(text: str) -> None:
    """ValueError on what only an attack holds: aliases (a few lines can stand for gigabytes) and endless nesting."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("a stored configuration has no aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")


DEEPEST = 40  # levels of YAML: libyaml overflows the C stack on a few thousand
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast, where there is one


def card(name: str, group: str = "model") -> Mapping[str, Any]:
    """What an option's YAML states of it that is no argument.

    Of a model: paper, year, parameters, dims, task, and the names that people also type. Of data: the `targets` that
    their batches hold; of a task: those that it learns from (see `refusals.TARGETS`).
    """
    return read(group, name).get("card", {})


def resolve_model(name: str) -> str:
    """A model's own name from any name on a card (`lenet` finds `lenet5`); unknown ones pass through."""
    if name in names("model"):
        return name
    for own in names("model"):
        if name.lower() in [str(other).lower() for other in card(own).get("names", [])]:
            return own
    return name


MOST = 20  # names that a message lists


def nearest(word: str, names: Iterable[str]) -> str:
    """
    >>> nearest("lenet", ["lenet5", "mlp"])
    'did you mean lenet5?'
    >>> nearest("zebra", ["lenet5", "mlp"])
    'there are lenet5, mlp'
    """
    names = sorted(set(names))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    likeness = [difflib.SequenceMatcher(None, name, word).ratio() for name in close]
    close = [name for name, ratio in zip(close, likeness, strict=True) if ratio > 0.93 * likeness[0]]
    if not close:  # `lr` finds `optimizer.lr`
        close = [name for name in names if name.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]][:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    top = [name for name in names if "." not in name]
    more = f", ... ({len(top)} in all)" if len(top) > MOST else ""
    return f"there are {', '.join(top[:MOST])}{more}"
