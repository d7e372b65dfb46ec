"""Why does one net learn and another not? Gradients, activations, dead units and updates of every layer, as curves.

    gradients/<layer>          ||dL/dw|| over the layer's own parameters, before clipping; `gradients/all`: of the net
    activations/<layer>/mean   of the layer's output, over all its numbers in this batch; and `/std`
    activations/<layer>/dead   share of units whose output is <= 0 for the whole batch, where a ReLU follows
    updates/<layer>            ||w_after - w_before|| / ||w_before||

A layer is a module that owns parameters, named as in `net.named_modules()` (`net` where the net itself does): the same
tags in every run, so that two runs overlay. An activation is what the layer returns: the sums before the nonlinearity,
where that is a function. A unit is a feature, of a convolution or a norm over channels a channel at all positions.

What to look for:

- Gradients that shrink by a factor at each layer towards the input vanish; under SGD the first layers then hardly move.
- Means that wander and stds that shrink or grow from layer to layer: the initial weights do not fit the nonlinearity.
  Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, AISTATS, watch
  activations (section 3) and gradients (section 4) by layer, and explain both by the weights' variance.
- A dead unit passes no gradient, so what is dead for every item stays dead: Maas, Hannun, Ng, "Rectifier Nonlinearities
  Improve Neural Network Acoustic Models", 2013, ICML, section 2. One batch gives an upper bound.
- Updates of about 1e-3 are healthy; far below, the learning rate is low, far above, high. A rule of thumb: Karpathy's
  notes for CS231n, "Neural Networks Part 3", section "Ratio of weights:updates".

Cost, on one CPU thread: a recorded step takes about 3 ms more for LeNet-5 (61,706 parameters, batches of 128) and 4 ms
more for the MLP (1,276,810 parameters, batches of 32), of which 1 ms is writing, and holds a copy of the weights; any
other step takes 0.003 ms more. With every 50th step recorded, that is below 1 % of a run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

RELUS = {torch.relu, torch.relu_, F.relu, Tensor.relu, Tensor.relu_}
NO_RATIO = -1.0  # of an update to weights that were all zero


class Diagnostics(Callback):
    """Writes the curves at the first step and at every `trainer.log_every_n_steps`-th, to every logger.

    All is taken from the training step itself: no pass of its own, no random number, no change of weights or gradients,
    so a run with it equals one without to the bit. Where a layer is used several times in a step (unrolled in time,
    several forward passes, L-BFGS's closures, accumulated batches), the last use counts; `dead` is seen in calls of
    the net itself. Parameters without a gradient are left out of gradients and updates, and a layer that has no others
    has no such tags. Of several processes the first one writes, about its own share of the batch.
    """

    def __init__(self) -> None:
        self.recording: Recording | None = None  # only while a step is due

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.stop()  # left where a batch was skipped
        if is_due(trainer):
            self.recording = Recording(getattr(pl_module, "net", pl_module))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.recording is not None:
            self.recording.see_gradients()

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        recording = self.stop()
        if recording is not None and recording.before:  # else the batch was only accumulated
            numbers = recording.read()
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step=trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.stop()

    def stop(self) -> "Recording | None":
        recording, self.recording = self.recording, None
        if recording is not None:
            recording.stop()
        return recording


def is_due(trainer: Trainer) -> bool:
    """Is the step that begins one whose numbers somebody will read?"""
    every, step = trainer.log_every_n_steps, trainer.global_step  # type: ignore[attr-defined]
    due = every > 0 and ((step + 1) % every == 0 or step == 0)
    return due and bool(trainer.loggers) and trainer.is_global_zero


class Recording:
    """One step: hooks on the net until `stop`, and numbers by tag, on the net's device until `read`."""

    def __init__(self, net: nn.Module):
        self.net, self.layers = net, layers(net)
        self.numbers: dict[str, Tensor] = {}  # tag -> scalar
        self.before: dict[str, list[tuple[Tensor, Tensor]]] = {}  # layer -> its parameters, each with a copy
        self.relus = ReLUs(self.layers, self.numbers)
        self.forward = ExitStack()  # holds what is active during a forward pass only
        self.hooks = ExitStack()
        for name, layer in self.layers.items():
            self.hooks.enter_context(layer.register_forward_hook(partial(self.see_output, name)))
        self.hooks.enter_context(net.register_forward_pre_hook(self.begin_forward))
        self.hooks.enter_context(net.register_forward_hook(self.end_forward, always_call=True))
        if hasattr(net, "with_auxiliary"):  # a task's other way into the net, of which torch tells no hook
            vars(net)["with_auxiliary"] = self.watched(net.with_auxiliary)  # type: ignore[arg-type]
            self.hooks.callback(vars(net).pop, "with_auxiliary")

    def stop(self) -> None:
        self.forward.close()  # torch does not call `end_forward` after a KeyboardInterrupt
        self.hooks.close()

    def begin_forward(self, *_: Any) -> None:
        self.relus.newest = None
        self.forward.enter_context(self.relus)

    def end_forward(self, *_: Any) -> None:
        self.forward.close()

    def watched(self, way_in: Callable[..., Any]) -> Callable[..., Any]:
        def call(*inputs: Any) -> Any:
            self.begin_forward()
            try:
                return way_in(*inputs)
            finally:
                self.end_forward()

        return call

    def see_output(self, name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        output = first_of(output)
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.numel() == 0:
            return
        self.relus.returned_by[output] = self.relus.newest = name
        mean, std = mean_and_std(output.detach().float())
        self.numbers |= {f"activations/{name}/mean": mean, f"activations/{name}/std": std}

    def see_gradients(self) -> None:
        for name, layer in self.layers.items():
            learning = [p for p in own(layer) if p.grad is not None]
            if learning:
                self.numbers[f"gradients/{name}"] = norm(gradients(learning))
                if name not in self.before:  # the first closure of L-BFGS: the later ones come after a move
                    self.before[name] = [(p, p.detach().clone()) for p in learning]
        if self.before:
            self.numbers["gradients/all"] = norm(gradients(self.net.parameters()))

    def read(self) -> dict[str, float]:
        """All numbers of the step by tag, in one transfer from the device."""
        self.numbers |= {f"updates/{name}": relative_change(weights) for name, weights in self.before.items()}
        device = next(iter(self.numbers.values())).device
        values = torch.stack([number.to(device, torch.float) for number in self.numbers.values()]).tolist()
        pairs = zip(self.numbers, values, strict=True)
        return {tag: value for tag, value in pairs if value != NO_RATIO or not tag.startswith("updates/")}


class ReLUs(TorchFunctionMode):
    """While active, adds the dead units to `numbers` at each rectifier that is called, as a function or in a module.

    They are those of the layer whose output goes in. Where something lies between, such as a pooling or a sum, they
    are those of the layer that returned last, unless its output has met a rectifier already.
    """

    def __init__(self, layers: Mapping[str, nn.Module], numbers: dict[str, Tensor]):
        self.layers, self.numbers = layers, numbers
        self.returned_by = WeakTensorKeyDictionary()  # output -> layer's name; keeps no output alive
        self.newest: str | None = None

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in RELUS:
            self.see(args[0] if args else kwargs["input"], result.detach())
        return result

    def see(self, before: Tensor, after: Tensor) -> None:
        name = self.returned_by.pop(before, self.newest)
        if name == self.newest:
            self.newest = None
        if name is not None and after.numel():
            self.numbers[f"activations/{name}/dead"] = dead(after, unit_dim(self.layers[name], after.ndim))


def layers(net: nn.Module) -> dict[str, nn.Module]:
    """The modules that own parameters.

    >>> list(layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 1)))))
    ['0', '2.0']
    """
    owners = ((name, module) for name, module in net.named_modules() if own(module))
    return {tag_of(name): module for name, module in owners if not isinstance(module, ParametrizationList)}


def tag_of(name: str) -> str:
    """A module's name, without what `torch.compile` adds.

    >>> tag_of("_orig_mod.layers.0"), tag_of("")
    ('layers.0', 'net')
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod") or "net"


def own(layer: Any) -> list[nn.Parameter]:
    """Parameters of the layer itself, not of its parts; weight and spectral norm keep some of them in a part."""
    kept = layer.parametrizations.parameters() if is_parametrized(layer) else ()
    return [*layer.parameters(recurse=False), *kept]


def unit_dim(layer: nn.Module, ndim: int) -> int:
    """Where the units are in a layer's output: (B, C, ...) of convolutions and of norms over channels, else last.

    A layer of a kind that is not torch's own and that returns (B, C, H, W) is taken for one of pictures.
    """
    pictures = ndim > 3 and not isinstance(layer, nn.Linear | nn.LayerNorm | nn.RMSNorm)
    return 1 if ndim > 1 and (pictures or isinstance(layer, _ConvNd | _NormBase | nn.GroupNorm)) else ndim - 1


def mean_and_std(output: Tensor) -> tuple[Tensor, Tensor]:
    """Over all numbers. torch.std_mean is one pass, and takes 12 times as long on a CPU."""
    mean = output.mean()
    return mean, torch.linalg.vector_norm(output - mean) / output.numel() ** 0.5


def dead(output: Tensor, unit_dim: int) -> Tensor:
    """Share of units that are <= 0 everywhere.

    >>> dead(torch.tensor([[1.0, 0.0, -2.0], [0.0, 0.0, 3.0]]), unit_dim=1)
    tensor(0.3333)
    """
    others = [dim for dim in range(output.ndim) if dim != unit_dim]
    largest = output.amax(others) if others else output
    return (largest <= 0).float().mean()


def relative_change(weights: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """||after - before|| / ||before|| over pairs (after, before); NO_RATIO where all before were zero."""
    size = norm([before for _, before in weights])
    change = norm([after.detach() - before for after, before in weights])
    return torch.where(size == 0, NO_RATIO, change / size)


def gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Those that there are; of a sparse one the entries that it holds."""
    found = [p.grad for p in parameters if p.grad is not None]
    return [grad.coalesce().values() if grad.is_sparse else grad for grad in found]


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of all entries of all tensors.

    >>> norm([torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])])
    tensor(5.)
    """
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))


def first_of(output: Any) -> Any:
    """A layer's main output: recurrent layers return it before their states, and packed sequences before lengths."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return output
