"""Holding parts of a net still: parameters do not learn, and norms above them do not count.

A batch norm that is frozen by its parameters alone would still follow the new data with its running mean and variance,
so that a frozen part would change all the same. Here it is in evaluation mode as long as it is frozen.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from dl_zoo.stages import check_pattern, heads, matches


def freeze(net: nn.Module, globs: Iterable[str]) -> None:
    """Hold the parameters still whose names match.

    Args:
        globs: over the parameters' names, or names of modules; `backbone` is all but the net's heads, `!glob` takes
            back, and the last one that matches a name decides, as in a .gitignore: `[backbone, "!layer4"]`.
    Raises:
        UserError: a glob that no parameter matches.
    """
    globs = list(globs)
    for glob in globs:
        check_pattern(net, glob.removeprefix("!"), "freeze")
    own = heads(net)
    for name, parameter in net.named_parameters():
        decisive = next((glob for glob in reversed(globs) if matches(name, glob.removeprefix("!"), own)), "!")
        if not decisive.startswith("!"):
            parameter.requires_grad = False
    for norm, names in counting_norms(net) if globs else ():
        if not any(net.get_parameter(name).requires_grad for name in names):
            hold(norm)


def counting_norms(net: nn.Module) -> Iterator[tuple[nn.Module, list[str]]]:
    """The modules with running statistics, and the parameters that they stand and fall with.

    Those are their own; of a norm without any, those of the module before it.
    """
    before: list[str] = []
    for prefix, module in net.named_modules():
        own = [f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters(recurse=False)]
        before = own or before
        if getattr(module, "running_mean", None) is not None and before:
            yield module, before


def hold(module: nn.Module) -> None:
    """Evaluation mode until `release`, whatever anybody says by `train()` in between."""
    if not _holds(module):
        module.register_forward_pre_hook(_in_evaluation_mode)
    module.eval()


def release(module: nn.Module) -> None:
    """Back into training mode, when it was held; a copy of a held module is held, too."""
    for key in _holds(module):
        del module._forward_pre_hooks[key]
        module.train()


def _holds(module: nn.Module) -> list[int]:
    return [key for key, hook in module._forward_pre_hooks.items() if hook is _in_evaluation_mode]


def _in_evaluation_mode(module: nn.Module, inputs: Any) -> None:
    module.training = False
