"""Which tensors of a file belong to which of a net, and a report of it. Nothing is ever skipped without a word."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.stages import heads, within

State = dict[str, Tensor]
SHOWN = 3  # names of a kind in a sentence; the report's lists have all
OPTIONAL = "num_batches_tracked"  # of batch norms; files from before 2018 lack it, and nothing is computed from it
KINDS = ("renamed", "replaced", "dropped", "missing", "unexpected")


@dataclass
class Report:
    """What a load did, name by name; `percent` is the share of the net's parameters that came from the file."""

    source: str
    matched: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)  # the file's name -> the net's
    replaced: list[str] = field(default_factory=list)  # heads for other classes: they keep their fresh weights
    dropped: list[str] = field(default_factory=list)  # of the file: heads that this net does not have, or by wish
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    percent: float = 0.0

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors matched, {self.percent:.1f} % of the parameters"]
        for what in KINDS:
            if getattr(self, what):
                parts.append(f"{what}: {_shown(self._words(what))}")
        return f"weights from {self.source}: " + "; ".join(parts)

    def _words(self, what: str) -> list[str]:
        """A module's name where it stands for all of its tensors."""
        if what == "renamed":
            return _once(_arrow(old, new) for old, new in self.renamed.items())
        return _modules(getattr(self, what))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def match(
    net: nn.Module,
    state: Mapping[str, Tensor],
    weights_map: Mapping[str, Any],
    source: str,
    fresh_heads: bool = False,
) -> tuple[Report, State]:
    """The report, and the part of `state` to load, under the net's names.

    In this order: the common prefix of a wrapper is stripped; `weights_map` renames dotted prefixes, or drops them
    ({aux1: null}); the file's heads are dropped where the net has none (num_classes=0); when one module is left over on
    both sides with the same shapes, it is the same by another name; a head of another size, under whatever name, or
    with `fresh_heads` any, stays fresh. Nets of one body and many purposes name `all_heads` of their family: a file's
    others are dropped, and those that it lacks stay fresh.

    Raises:
        UserError: anything else is left over, or a map that renames nothing.
    """
    own = net.state_dict()
    report = Report(source)
    state = _mapped(dict(state), own, weights_map, report)
    top = heads(net)
    headless = bool(top) and not any(within(name, top) for name in own)  # a tied net never had one
    if headless:
        _drop(state, [name for name in state if name not in own and within(name, top)], report)
    kin = getattr(net, "all_heads", ())
    _drop(state, [name for name in state if name not in own and within(name, kin)], report)
    _rename_the_one_left_over(own, state, report)
    fresh, theirs = _other_head(own, state, top)
    _drop(state, theirs, report)
    if fresh_heads or kin:
        fresh = [name for name in own if within(name, top)]
    if fresh_heads:
        state = {name: value for name, value in state.items() if name not in fresh}
    if headless and not _missing(own, state) and len(parents := _parents(state.keys() - own.keys())) == 1:
        _drop(state, [name for name in state if name not in own and within(name, parents)], report)

    common = [name for name in own if name in state]
    report.matched = [name for name in common if own[name].shape == state[name].shape]
    other = [name for name in common if own[name].shape != state[name].shape]
    absent = _missing(own, state)
    fresh += [name for name in report.dropped if within(name, top)]  # by wish: {fc: null}
    report.replaced = sorted({name for name in other if within(name, top)} | set(absent) & set(fresh))
    report.missing = [name for name in absent if name not in fresh]
    report.unexpected = sorted(state.keys() - own.keys())
    learned = {name: parameter.numel() for name, parameter in net.named_parameters()}
    loaded = sum(learned.get(name, 0) for name in report.matched)
    report.percent = 100 * loaded / max(1, sum(learned.values()))
    if report.missing or report.unexpected or not set(other) <= set(report.replaced):
        raise UserError(_what_does_not_match(report, own, state, other))
    return report, {name: state[name] for name in report.matched}


def _stripped(state: State, own: Mapping[str, Tensor]) -> State:
    """Without the first component that all names share and the net's do not: `module.`, `model.`, `net.`, ..."""
    state = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    state.pop("n_averaged", None)  # torch's AveragedModel counts beside the net
    while True:
        first = {name.partition(".")[0] for name in state}
        prefix = f"{first.pop()}." if len(first) == 1 else ""
        deeper = bool(prefix) and all(name.startswith(prefix) for name in state)
        if not deeper or all(name.startswith(prefix) for name in own):
            return state
        state = {name.removeprefix(prefix): value for name, value in state.items()}


def _mapped(state: State, own: Mapping[str, Tensor], weights_map: Mapping[str, Any], report: Report) -> State:
    """Without a wrapper's prefix, and with the map applied; what it drops may stand beside the prefix or below it."""
    dropped = [str(old) for old, new in weights_map.items() if new is None]
    names = set(state)
    for strip in (False, True):
        state = _stripped(state, own) if strip else dict(state)
        _drop(state, [name for name in state if within(name, dropped)], report)
        names |= set(state)
    for old in weights_map:
        if not any(within(name, [str(old)]) for name in names | set(report.dropped)):
            raise UserError(f"weights_map: the file has nothing named {old}; it has {_shown(_tops(state))}")
    renames = {str(old): str(new) for old, new in weights_map.items() if new is not None}
    for name in state:
        for prefix in [old for old in renames if within(name, [old])][:1]:
            report.renamed[name] = f"{renames[prefix]}{name.removeprefix(prefix)}"
    named = [report.renamed.get(name, name) for name in state]
    if twice := sorted(name for name in set(named) if named.count(name) > 1):
        raise UserError(f"weights_map: two tensors would be {twice[0]}; drop one of them with {{name: null}}")
    return dict(zip(named, state.values(), strict=True))


def _rename_the_one_left_over(own: Mapping[str, Tensor], state: State, report: Report) -> None:
    here, there = _missing(own, state), sorted(state.keys() - own.keys())
    new, old = _parents(here), _parents(there)
    if len(new) != 1 or len(old) != 1:
        return
    names = {f"{old[0]}{name.removeprefix(new[0])}": name for name in here}
    if sorted(names) == there and all(state[a].shape == own[b].shape for a, b in names.items()):
        for a, b in names.items():
            state[b] = state.pop(a)
        report.renamed |= names


def _other_head(own: Mapping[str, Tensor], state: State, top: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is left over here and there, where that is one head each: for other classes, by another name."""
    here, there = _missing(own, state), sorted(state.keys() - own.keys())
    new, old = _parents(here), _parents(there)
    layers = len(new) == len(old) == 1 and within(new[0], top) and bool(old[0])
    alike = [(name.rpartition(".")[2], own[name].ndim) for name in here]
    same_kind = alike == [(name.rpartition(".")[2], state[name].ndim) for name in there]
    return (here, there) if layers and same_kind else ([], [])


def _drop(state: State, names: Iterable[str], report: Report) -> None:
    for name in names:
        del state[name]
        report.dropped.append(name)


def _missing(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    return sorted(name for name in own.keys() - state.keys() if not name.endswith(OPTIONAL))


def _parents(names: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[0] for name in names})


def _modules(names: Iterable[str]) -> list[str]:
    """Each once, in the order of their tensors."""
    return _once(name.rpartition(".")[0] or name for name in names)


def _tops(names: Iterable[str]) -> list[str]:
    return _once(name.partition(".")[0] for name in names)


# ---- words ----------------------------------------------------------------------------------------------------------


def _what_does_not_match(report: Report, own: Mapping[str, Tensor], state: State, other: list[str]) -> str:
    """One line: how much matched, the first mismatch with both shapes, and the mend."""
    wrong = [name for name in other if name not in report.replaced]
    told = []
    absent, left = [n for n in own if n in report.missing], [n for n in state if n in report.unexpected]
    if wrong:
        shapes = f"{_shape(state[wrong[0]])} in the file and {_shape(own[wrong[0]])} in the net"
        more = f" (and {len(wrong) - 1} more differ)" if len(wrong) > 1 else ""
        told = [f"{wrong[0]} is {shapes}{more}"]
    elif absent and left:
        first = f"the file has {left[0]} ({_shape(state[left[0]])})"
        told = [f"{first}, the net {absent[0]} ({_shape(own[absent[0]])})"]
    told += [
        f"{kind}: {_shown(_modules(names))}" for kind, names in (("missing", absent), ("unexpected", left)) if names
    ]
    counted = sum(not name.endswith(OPTIONAL) for name in own)
    same = sum(not name.endswith(OPTIONAL) for name in report.matched)
    matched = f"{same} of {counted} tensors match, {report.percent:.1f} % of the parameters"
    return f"weights from {report.source}: {matched}; {'; '.join(told)}; {_mend(report, own, state, wrong)}"


def _mend(report: Report, own: Mapping[str, Tensor], state: State, wrong: list[str]) -> str:
    new, old = _parents(report.missing), _parents(report.unexpected)
    if not wrong and len(new) == len(old) == 1 and old[0]:
        return f"if these are the same, weights_map={{{old[0]}: {new[0]}}}"
    both = set(_tops(own)) & set(_tops(report.missing + report.unexpected))
    if not wrong and both and not (new and old):
        other, tops = ("deeper" if old else "shallower"), ", ".join(sorted(both))
        return f"it seems to be of a {other} net (both have {tops}): choose model= or its numbers after it"
    if not wrong and not new:
        return f"if it is not needed, weights_map={{{', '.join(f'{top}: null' for top in _tops(old))}}}"
    if report.percent < 50:
        return "it seems to be of another architecture, or of other arguments: choose model= or its numbers after it"
    if wrong:
        return "give the net the file's numbers (model.<argument>=), or take another file"
    return "rename with weights_map={old: new}"


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _shown(words: list[str]) -> str:
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _arrow(old: str, new: str) -> str:
    """
    >>> _arrow("linear.weight", "fc.weight")
    'linear -> fc'
    """
    while "." in old and "." in new and old.rpartition(".")[2] == new.rpartition(".")[2]:
        old, new = old.rpartition(".")[0], new.rpartition(".")[0]
    return f"{old} -> {new}"


# ---- nets built without initial weights -----------------------------------------------------------------------------


def reset(net: nn.Module, names: Iterable[str]) -> None:
    """Fresh weights, as torch gives them, for the layers that hold these parameters."""
    for parent in _parents(names):
        net.get_submodule(parent).reset_parameters()  # type: ignore[operator]
