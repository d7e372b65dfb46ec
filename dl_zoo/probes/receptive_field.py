"""Which inputs a unit sees: where the gradient of one output is not zero.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015, arXiv:1409.1556,
section 2.3: two 3x3 convolutions see 5x5, three see 7x7; from channel to channel with 18 and 27 weights, not 25 and 49.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items


def receptive_field(
    task: Any, data: Any, *, layers: list[str] | None = None, since: str | None = None
) -> dict[str, float]:
    """Side, in pixels, of the square that a unit in the middle of a convolution's output sees.

        receptive_field/<layer>           height of the gradient's support; inf where it fills the input
        receptive_field/<layer>_pixels    how many pixels have a gradient: its square where there are no holes

    Asked of a copy in float64 whose weights and inputs are positive: then no rectifier is shut and no terms cancel, and
    a gradient is zero only where there is no way. A max pool chooses one of its window; so it is an average there.

    Args:
        layers: names of modules; all convolutions when None.
        since: the module at whose input the pixels are counted; the net's own input when None.
    Raises:
        UserError: a name that is no module of the net, or a layer that sees nothing of what `since` reads.
    """
    inputs, _ = first_items(data, 1, torch.device("cpu"))
    net = positive(task.net)
    modules = dict(net.named_modules())
    names = layers or [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    if wrong := [name for name in (*names, *([since] if since else [])) if name not in modules]:
        raise UserError(f"this net has no module {wrong[0]}; there are {', '.join([*modules][1:5])}, ...")
    source, outputs = passed(net, inputs.double().abs() + 1, names, since)
    found: dict[str, float] = {}
    for name in names:
        if name not in outputs or outputs[name].dim() != 4:
            raise UserError(f"{name} gives no maps")
        support = support_of(source, outputs[name])
        rows = support.any(1).nonzero()
        if not len(rows):
            raise UserError(f"{name} sees nothing of the input of {since}")
        found[f"receptive_field/{name}"] = float(rows.max() - rows.min() + 1)
        found[f"receptive_field/{name}_pixels"] = float(support.sum())
    return found


def positive(net: nn.Module) -> nn.Module:
    """A copy in float64, in evaluation: weights of 1 / fan-in, norms that only scale, average for max pooling."""
    net = copy.deepcopy(net).cpu().double().eval()
    for module in net.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                parameter.data.fill_(1.0 / max(1, parameter[0].numel()))
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                average = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, average)
    return net


def passed(net: nn.Module, x: Tensor, names: list[str], since: str | None) -> tuple[Tensor, dict[str, Tensor]]:
    """One pass: what `since` reads (the net's input where None), and the outputs of the modules of these names."""
    source, outputs = x.requires_grad_(), dict[str, Tensor]()
    hooks = []

    def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal source
        source = inputs[0].detach().requires_grad_()
        return (source, *inputs[1:])

    modules = dict(net.named_modules())
    if since is not None:
        hooks.append(modules[since].register_forward_pre_hook(read))
    for name in names:
        note = lambda module, inputs, output, name=name: outputs.setdefault(name, output.clone())  # noqa: E731
        hooks.append(modules[name].register_forward_hook(lambda *seen, note=note: void(note(*seen))))
    try:
        with torch.enable_grad():
            net(x)
    finally:
        for each in hooks:
            each.remove()
    return source, outputs


def void(_: Any) -> None:
    """A hook that answers nothing leaves the output alone."""


def support_of(source: Tensor, output: Tensor) -> Tensor:
    """(H, W) bool: where the middle unit of `output` (1, C, H', W') has a gradient with respect to `source`."""
    middle = output[0, :, output.shape[2] // 2, output.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, source, retain_graph=True, allow_unused=True)
    return torch.zeros(source.shape[2:], dtype=torch.bool) if gradient is None else gradient[0].ne(0).any(0)
