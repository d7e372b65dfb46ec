"""Memory in TensorBoard: how far back a recurrent net's last state depends on earlier ones, and how open its gates are.

Tags: `gradients/through_time`, the norm of dh_T / ds_(T-k) by the lag k; `activations/gates`, each gate's mean over the
units at each step. Of nets whose forward takes a `state`, on the first validation sequences, about ten times in a run.
Nothing is drawn at random and nothing enters a checkpoint.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dl_zoo.callbacks.figures import render
from dl_zoo.callbacks.maps import undisturbed
from dl_zoo.callbacks.pictures import draw
from dl_zoo.callbacks.texts import is_shown
from dl_zoo.through_time import gradient_norms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEQUENCES = 8
STEPS = 200  # the first of them: a step of its own for each is as slow as Python
COLOURS = ("#1f5fa8", "#c2571a", "#2f7d4f")


class MemoryPictures(Callback):
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:  # place: batch, and loader where there are several
        net: Any = getattr(pl_module.net, "_orig_mod", pl_module.net)
        if any(place) or not hasattr(net, "gate_values") or net.directions != 1 or not is_shown(trainer):
            return
        first = batch[0][0] if isinstance(batch[0], tuple | list) else batch[0]  # without lengths
        with undisturbed(net, pl_module.device):
            x = first[:SEQUENCES, :STEPS].clone()  # one that autograd takes
            if x.shape[1] > 1:
                with torch.enable_grad():
                    norms = gradient_norms(net, x)
                draw(trainer, "gradients/through_time", render(lags_figure(norms)))
            gates = net.gate_values(x)
        if gates:
            draw(trainer, "activations/gates", render(gates_figure(gates)))


def lags_figure(norms: Tensor) -> "Figure":
    """`norms` (T,) at lags 0 .. T - 1, told as shares of that at lag 0."""
    from matplotlib.figure import Figure

    figure = Figure((5.0, 3.0), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="lag k, steps back", ylabel="|dh_T / ds_(T-k)|, that of k = 0 at 1")
    axes.plot((norms / norms[0]).clamp(min=1e-38).cpu().numpy(), color=COLOURS[0])
    axes.set_yscale("log")
    axes.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    quiet(axes)
    return figure


def gates_figure(gates: Mapping[str, Tensor]) -> "Figure":
    """Gates (B, T, H): means over units and sequences, in a band of the middle half of them."""
    from matplotlib.figure import Figure

    figure = Figure((5.0, 3.0), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="gate: 0 shut, 1 open", ylim=(0, 1))
    for colour, (name, values) in zip(COLOURS, gates.items(), strict=False):
        each = values.float().transpose(1, 2).flatten(0, 1).cpu()  # (B H, T)
        low, high = each.quantile(torch.tensor([0.25, 0.75]), 0)
        axes.plot(each.mean(0).numpy(), color=colour, label=name)
        axes.fill_between(range(each.shape[1]), low.numpy(), high.numpy(), color=colour, alpha=0.15, linewidth=0)
    axes.legend(frameon=False, ncols=len(gates), fontsize=8)
    quiet(axes)
    return figure


def quiet(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
