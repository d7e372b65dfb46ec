"""What each layer knows: how well a linear classifier reads the classes off its output.

Alain, Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644, section 3.

A probe is a softmax classifier on the flattened features H_k of layer k, fitted while the net stays as it is:

    f_k(h) = softmax(W h + b)

No layer can hold more about the class than the input does; what can grow is how much of it a linear map can use. On
MNIST (section 3.5, figure 3) the paper sees the probes' error fall at nearly every layer of a trained net. Random
layers help too, if they are wide: 8 % error on the input, 2 % after the layers of the untrained net.

Departures: the paper trains its probes by gradient descent and stops them early; here they are fitted to the end on a
fixed sample of the training set, with a penalty on |W|^2. They are scored on validation data, so that the test set
stays untouched.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError

TOLERANCE = 1e-4  # of the gradient; 1e-6 takes twice as long and moves no error by 0.0015 (LeNet-5, MNIST, one seed)

Features = dict[str, np.ndarray]  # layer -> (N, D) float32


def linear_probes(
    task: Any, data: Any, *, items: int = 5000, layers: list[str] | None = None, strength: float = 2e-5
) -> dict[str, float]:
    """`linear_error/<place>_<layer>`: share of the validation items that a linear classifier on that layer gets wrong.

    Place 0 is the input. What follows is each module with parameters or buffers of its own, by its order in the pass.
    The features of a layer are what the next one reads, after nonlinearity and pooling, or the net's output: in a chain
    of layers these are its own; in a net with branches read them as "up to here".

    Args:
        items: training items for fitting, the first of the training set.
        layers: which to report, by module name or "input"; all when None.
        strength: of the penalty strength / 2 |W|^2 beside the mean cross entropy. Features are centred and scaled to a
            mean squared length of 1, so that it means the same for wide and narrow layers of any scale.
    Raises:
        UserError: a name that is no such layer.
    """
    train, train_classes = features(task.net, data.loader("train"), items)
    val, val_classes = features(task.net, data.loader("val"), None)
    for name in layers or []:
        if name not in train:
            raise UserError(f"probe.linear_probes.layers: there is no {name}; there are {', '.join(train)}")
    digits = len(str(len(train) - 1))  # so that the names sort by depth
    return {
        f"linear_error/{place:0{digits}}_{name}": probe_error(
            train[name], train_classes, val[name], val_classes, strength
        )
        for place, name in enumerate(train)
        if layers is None or name in layers
    }


def probe_error(
    train: np.ndarray, train_classes: np.ndarray, val: np.ndarray, val_classes: np.ndarray, strength: float
) -> float:
    """Fit on the first pair, score on the second: features (N, D), classes (N,) -> a fraction."""
    from sklearn.linear_model import LogisticRegression

    centre = train.mean(0)
    length = np.sqrt(np.square(train - centre).sum(1).mean()) or 1.0  # 0: features that are all alike
    model = LogisticRegression(C=1 / (strength * len(train)), tol=TOLERANCE, max_iter=1000)  # it sums the losses
    model.fit((train - centre) / length, train_classes)
    return float((model.predict((val - centre) / length) != val_classes).mean())


@torch.no_grad()
def features(net: nn.Module, loader: Any, items: int | None) -> tuple[Features, np.ndarray]:
    """What comes out of each layer for the first `items` (None: all), by name in order of the pass, and the classes."""
    net.eval()
    passes: list[tuple[dict[str, Tensor], Tensor]] = []
    for inputs, targets in loader:
        passes.append((read(net, inputs), targets))
        if items is not None and sum(len(each) for _, each in passes) >= items:
            break
    names = passes[0][0]
    rows = {name: torch.cat([seen[name] for seen, _ in passes])[:items].numpy() for name in names}
    return rows, torch.cat([targets for _, targets in passes])[:items].cpu().numpy()


def read(net: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """One pass: layer -> features (B, D) on the CPU. A layer that is used several times counts at its first use."""
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    device = next(net.parameters()).device
    seen: dict[str, Tensor] = {}
    before = "input"

    def hook(name: str) -> Any:
        def note(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            nonlocal before
            seen.setdefault(before, flat(arguments[0]))
            before = name

        return note

    hooks = [layer.register_forward_pre_hook(hook(name)) for name, layer in own_state(net)]
    try:
        output = net(*(each.to(device) for each in inputs))
    finally:
        for each in hooks:
            each.remove()
    seen.setdefault(before, flat(output))
    return seen


def flat(features: Tensor) -> Tensor:
    """(B, ...) -> (B, D) on the CPU; a copy, since a net may go on to change them in place."""
    return features.flatten(1).to("cpu", torch.float32, copy=True)


def own_state(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that hold parameters or buffers themselves, not only in their children."""
    for name, layer in net.named_modules():
        if any(True for _ in layer.parameters(recurse=False)) or any(True for _ in layer.buffers(recurse=False)):
            yield name or "net", layer
