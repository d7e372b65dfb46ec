"""What a net costs, and where: parameters, multiply-adds and the shapes of its maps, whole, by kind and by module.

Szegedy et al., "Going Deeper with Convolutions", 2015, arXiv:1409.4842, sections 4 and 5: 1x1 convolutions that reduce
the channels before the 3x3 and 5x5 ones are what makes inception modules affordable.

A multiply-add is counted for each weight at each place where a convolution or a dense layer uses it; biases, norms,
nonlinearities and pooling are not. It is the "FLOPs" of He et al. 2015, arXiv:1512.03385, table 1.
"""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError


def costs(task: Any, data: Any, *, modules: list[str] | None = None) -> dict[str, float]:
    """`costs/parameters`, those that train, and `costs/macs`, multiply-adds for one item of the data, of the whole net;

        costs/parameters/<kind>, costs/macs/<kind>    of the modules of a class, such as Conv2d

    and for each of `modules`, by name, with all that it holds:

        costs/<module>/parameters, weights, macs      weights: parameters of more than one dimension
        costs/<module>/channels, size                 of what it gives: maps, and their height (1 of a dense layer)

    Computed on a copy on `meta`, in evaluation: nothing is multiplied, and auxiliary heads have parameters but no
    multiply-adds.

    Raises:
        UserError: a name that is no module of the net, or is not called.
    """
    inputs, _ = next(iter(data.loader("val")))
    items = inputs if isinstance(inputs, tuple | list) else (inputs,)
    net = copy.deepcopy(task.net).to("meta").eval()
    named = dict(net.named_modules())
    if wrong := [name for name in modules or [] if name not in named]:
        raise UserError(f"this net has no module {wrong[0]}; there are {', '.join([*named][1:5])}, ...")
    macs, shapes = measured(net, *(each[:1].to("meta") for each in items))
    found = {"parameters": float(trained(net)), "macs": float(sum(macs.values()))}
    for kind in sorted({type(module).__name__ for module in named.values() if module._parameters}):
        alike = [name for name, module in named.items() if type(module).__name__ == kind]
        found[f"parameters/{kind}"] = float(sum(trained(named[name], False) for name in alike))
        found[f"macs/{kind}"] = float(sum(macs[name] for name in alike))
    for name in modules or []:
        if name not in shapes:
            raise UserError(f"{name} is not called, so it has no shape")
        found |= {f"{name}/{key}": float(value) for key, value in of_module(name, named[name], macs, shapes).items()}
    return {f"costs/{name}": value for name, value in found.items()}


def of_module(name: str, module: nn.Module, macs: Counter[str], shapes: dict[str, torch.Size]) -> dict[str, int]:
    """The numbers of one module: its own and of all that it holds."""
    _, channels, *places = shapes[name]
    inside = [other for other in macs if other == name or other.startswith(f"{name}.")]
    return {
        "parameters": trained(module),
        "weights": sum(p.numel() for p in module.parameters() if p.requires_grad and p.dim() > 1),
        "macs": sum(macs[other] for other in inside),
        "channels": channels,
        "size": places[0] if places else 1,
    }


def trained(module: nn.Module, recurse: bool = True) -> int:
    """How many numbers of a module train."""
    return sum(p.numel() for p in module.parameters(recurse) if p.requires_grad)


@torch.no_grad()
def measured(net: nn.Module, *inputs: Tensor) -> tuple[Counter[str], dict[str, torch.Size]]:
    """One pass: multiply-adds by module, and the shape of what each module gave last; by name."""
    macs: Counter[str] = Counter()
    shapes: dict[str, torch.Size] = {}

    def noting(name: str) -> Any:
        def note(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes[name] = output.shape
                macs[name] += multiply_adds(module, output)

        return note

    hooks = [module.register_forward_hook(noting(name)) for name, module in net.named_modules()]
    try:
        net(*inputs)
    finally:
        for each in hooks:
            each.remove()
    return macs, shapes


def multiply_adds(module: nn.Module, output: Tensor) -> int:
    """Of a convolution (output (1, O, ...)) or a dense layer: each place of the output sums over one row of weights.

    >>> multiply_adds(nn.Conv2d(16, 32, 5, groups=2), torch.zeros(1, 32, 14, 14))  # 32 * 14 * 14 * (8 * 5 * 5)
    1254400
    """
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
        return output.numel() * module.weight[0].numel()
    return 0
