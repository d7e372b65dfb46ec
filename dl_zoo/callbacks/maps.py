"""What is inside a net that sees pictures: the weights of its first layer, the maps of its convolutions, Grad-CAM.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, arXiv:1610.02391, section 3: with A^k the maps of the last convolutional layer, and y^c the
score of a class before the softmax,

    alpha_k = mean over i, j of dy^c / dA^k_ij          L = ReLU(sum_k alpha_k A^k)                          (eq. 1, 2)

The map that is used is the last output, of any module, that has the size of the last convolution's: what follows a
convolution without changing its size (norm, rectifier, the sum with a shortcut, branches put together) belongs to it.
Where the rectifier is a function and no module, A are the sums before it.

The net is left as it was: weights, gradients, modes, random states. Frozen nets are looked at like others, since
differentiation begins at A.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Seen:
    """One picture's way through a net."""

    convolutions: list[tuple[str, Tensor]]  # names and maps (N, h, w), in the order of the calls
    last: nn.Module  # whose output is the last map
    call: int  # the how many-th of its calls that was


def look(net: nn.Module, picture: Tensor) -> Seen | None:
    """Of one picture (1, C, H, W); None where no convolution gives a map of more than one place."""
    calls: list[tuple[nn.Module, torch.Size]] = []
    found: list[tuple[str, Tensor, int]] = []  # convolutions: name, map, which of the calls

    def note(name: str, module: nn.Module, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and math.prod(output.shape[2:]) > 1:
            if isinstance(module, nn.Conv2d):
                found.append((name, output[0].detach().clone(), len(calls)))  # rectifiers may work in place
            calls.append((module, output.shape[2:]))

    with undisturbed(net, picture.device) as stack, torch.no_grad():
        for name, module in net.named_modules():
            if module is not net:
                hook = module.register_forward_hook(lambda m, _, output, name=name: note(name, m, output))
                stack.callback(hook.remove)
        net(picture.clone())
    if not found:
        return None
    start = found[-1][2]
    size = calls[start][1]
    last = max(n for n, (_, other) in enumerate(calls) if other == size and n >= start)
    module = calls[last][0]
    return Seen([(name, maps) for name, maps, _ in found], module, sum(m is module for m, _ in calls[:last]))


def grad_cam(net: nn.Module, pictures: Tensor, classes: Tensor, seen: Seen) -> Tensor | None:
    """For (B, C, H, W) and classes (B,): heat (B, h, w) on the CPU, each picture's highest 1, or 0 all over.

    None where the outputs are no scores of these classes, or do not hang on the map.
    """
    maps: list[Tensor] = []
    calls = 0

    def begin_here(module: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != seen.call + 1:
            return None
        maps.append(output.detach().requires_grad_())
        return maps[0].clone()  # which a rectifier may overwrite

    with undisturbed(net, pictures.device) as stack, torch.enable_grad():
        stack.callback(seen.last.register_forward_hook(begin_here).remove)
        scores = net(pictures.clone())
        if not (maps and isinstance(scores, Tensor) and scores.ndim == 2 and scores.requires_grad):
            return None
        if int(classes.max()) >= scores.shape[1]:
            return None
        (slope,) = torch.autograd.grad(scores.gather(1, classes[:, None].clone()).sum(), maps)
    heat = (slope.mean((2, 3), keepdim=True) * maps[0].detach()).sum(1).relu().float().cpu()
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)


@contextmanager
def undisturbed(net: nn.Module, device: torch.device) -> Iterator[ExitStack]:
    """Evaluation mode, outside of `inference_mode`; afterwards modes and random states are as before."""
    modes = [(module, module.training) for module in net.modules()]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        net.eval()
        try:
            yield stack
        finally:
            for module, mode in modes:
                module.training = mode


def first_filters(net: nn.Module, shape: torch.Size) -> tuple[str, Tensor] | None:
    """Name and weights, as pictures (N, 1 or 3, h, w), of the first layer, or None where they make no pictures.

    `shape`: of the inputs; (B, C, H, W) makes pictures of the rows of a linear layer that takes all C*H*W of them.
    """
    layers = ((name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    name, layer = next(layers, ("", net))
    if isinstance(layer, nn.Conv2d):
        weight = layer.weight.detach()  # (O, I, h, w)
    elif isinstance(layer, nn.Linear) and len(shape) == 4 and math.prod(shape[1:]) == layer.in_features:
        weight = layer.weight.detach()[:64].unflatten(1, shape[1:])
    else:
        return None
    if weight.shape[1] not in (1, 3):
        weight = weight.flatten(0, 1).unsqueeze(1)  # neither grey nor colours: each channel for itself
    if min(weight.shape[2:]) == 1:
        return None
    return name.removeprefix("_orig_mod.") or "net", weight[:256].float().cpu()
