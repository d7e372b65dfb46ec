"""How large a net is: what it learns, and what it connects.

A parameter that is shared by many positions is one parameter but many connections. That difference is the case for
convolutions in LeCun, Bottou, Bengio, Haffner 1998, section II-B: LeNet-5 has 340,908 connections but only 60,000
trainable parameters.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 10_000_000  # pairs of an input and an output of one layer that are tried
AT_ONCE = 64  # inputs: the buffers then stay in the cache
ROUNDING = 1e-9  # in double precision, of sums of numbers about 1


def size(task: Any, data: Any) -> dict[str, float]:
    """`parameters`, those that train, and `connections` for one item.

    Connections are left out where a layer reads something other than one tensor of numbers or has more than LARGEST
    pairs of an input and an output.
    """
    sizes = {"parameters": float(sum(p.numel() for p in task.net.parameters() if p.requires_grad))}
    inputs, _ = next(iter(data.loader("val")))
    counts = None if isinstance(inputs, tuple | list) else connections(task.net, inputs[:1])
    return sizes if counts is None else {**sizes, "connections": float(sum(counts.values()))}


@torch.no_grad()
def connections(net: nn.Module, item: Tensor) -> dict[str, int] | None:
    """Of each module with parameters or buffers of its own, for one item (1, ...); None where one cannot be counted.

    A connection is an input that an output depends on, or a bias. Rectifiers and pooling without weights have none.
    """
    seen: list[tuple[str, nn.Module, Any, Any]] = []
    layers = [(name, m) for name, m in net.named_modules() if m._parameters or m._buffers]
    hooks = [
        layer.register_forward_hook(lambda layer, x, y, name=name: seen.append((name, layer, x, y)))
        for name, layer in layers
    ]
    try:
        net.eval()(item.to(next(net.parameters()).device))
    finally:
        for each in hooks:
            each.remove()
    counts: dict[str, int] = {}
    for name, layer, inputs, output in seen:
        whole = [isinstance(each, Tensor) and each.is_floating_point() for each in (*inputs, output)]
        if len(inputs) != 1 or not all(whole) or inputs[0].numel() * output.numel() > LARGEST:
            return None
        counts[name] = counts.get(name, 0) + dependences(layer, inputs[0]) + biases(layer, output)
    return counts


def dependences(layer: nn.Module, item: Tensor) -> int:
    """Pairs of an input and an output where another value of the input changes the output.

    Tried at random weights and a random input: the net's own weights may be zero, as some initializers leave them, and
    the connection is there all the same. Fixed numbers (buffers) are kept.
    """
    generator = torch.Generator().manual_seed(0)
    layer = copy.deepcopy(layer).cpu().double()
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    item = torch.randn(item.shape, generator=generator).double()
    before, count = layer(item), 0
    for places in torch.arange(item.numel()).split(AT_ONCE):
        changed = item.flatten().repeat(len(places), 1)
        changed[torch.arange(len(places)), places] += 1  # one input each
        after = layer(changed.view(-1, *item.shape[1:]))
        count += int((after - before).abs().gt(ROUNDING).count_nonzero())
    return count


def biases(layer: nn.Module, output: Tensor) -> int:
    """One for each unit of a layer that has them."""
    return output.numel() if getattr(layer, "bias", None) is not None else 0
