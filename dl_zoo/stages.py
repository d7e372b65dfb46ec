"""Where in a net a parameter is: in a head, in a stage, under a name that somebody typed.

Fine-tuning treats a net from its head downwards: what is near the pictures is general, what is near the classes is not
(Yosinski, Clune, Bengio, Lipson, "How transferable are features in deep neural networks?", 2014, arXiv:1411.1792).
Freezing, learning rates and gradual unfreezing speak of the same parts, which are named here.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dl_zoo.errors import UserError
from dl_zoo.options import nearest

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
POOLING = re.compile(r"(Adaptive|Fractional)?(Max|Avg|LP)Pool\dd")
BACKBONE = "backbone"  # everything but the heads


def heads(net: nn.Module) -> tuple[str, ...]:
    """The modules whose size is the number of classes: those that the net names, else the last one with weights."""
    stated = getattr(net, "heads", None)
    if stated is not None:
        return tuple(stated)
    names = [name for name, _ in net.named_parameters()]
    return (names[-1].rpartition(".")[0],) if names and "." in names[-1] else ()


def within(name: str, modules: Iterable[str]) -> bool:
    """
    >>> within("fc.weight", ["fc"]), within("fc2.weight", ["fc"])
    (True, False)
    """
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def matches(name: str, pattern: str, net_heads: Iterable[str] = ()) -> bool:
    """Does a parameter's name match a glob, lie below a module that does, or in the `backbone`?

    >>> [matches("layer1.0.conv1.weight", each) for each in ("layer1", "layer?.0", "*.weight", "layer", "backbone")]
    [True, True, True, False, True]
    """
    if pattern == BACKBONE:
        return not within(name, net_heads)
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def check_pattern(net: nn.Module, pattern: str, key: str) -> None:
    """UserError with the nearest names where no parameter matches; `key` is what was set with it, such as `freeze`."""
    names = [name for name, _ in net.named_parameters()]
    own = heads(net)
    if not any(matches(name, pattern, own) for name in names):
        known = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}
        raise UserError(f"{key}={pattern}: no parameter has such a name; {nearest(pattern, {BACKBONE, *known})}")


def stages(net: nn.Module) -> list[list[str]]:
    """The parameters' names from bottom to top, stage by stage; each is in exactly one.

    A stage is a child of the net, in order of registration. A norm joins what it normalises, the flat stack of layers
    of a VGG is cut after each pooling, the layers of a list are stages of their own, and the heads come last, together.

    >>> stages(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 9)))
    [['0.weight', '0.bias', '1.weight', '1.bias'], ['4.weight', '4.bias']]
    """
    names = [name for name, _ in net.named_parameters()]
    top = heads(net)
    parts = list(_parts(net))
    below = [name for name in names if not within(name, top)]
    inside = {name for part in parts for name in below if within(name, part)}
    found = [[name for name in below if name not in inside]]  # the net's own, such as a class token
    found += [[name for name in below if within(name, part)] for part in parts]
    return [stage for stage in [*found, [name for name in names if within(name, top)]] if stage]


def _parts(net: nn.Module) -> Iterator[list[str]]:
    """Modules by name, those of a stage together."""
    if isinstance(net, nn.Sequential) and not any(True for child in net for _ in child.children()):
        yield from _cut("", net)
        return
    part: list[str] = []
    for name, child in net.named_children():
        if isinstance(child, NORMS) and part:
            part.append(name)
            continue
        yield part
        part = []
        if isinstance(child, nn.ModuleList):
            yield from ([f"{name}.{each}"] for each, _ in child.named_children())
        elif isinstance(child, nn.Sequential):
            yield from _cut(f"{name}.", child)
        else:
            part = [name]
    yield part


def _cut(prefix: str, stack: nn.Sequential) -> Iterator[list[str]]:
    """A stack of layers after each of its poolings; one without pooling stays whole."""
    part: list[str] = []
    for name, child in stack.named_children():
        part.append(f"{prefix}{name}")
        if POOLING.fullmatch(type(child).__name__):
            yield part
            part = []
    yield part
