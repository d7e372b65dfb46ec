"""What a net made up, drawn: pictures side by side, the plane of two latents, points beside their data, a chain."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 56  # pixels that a picture is at least enlarged to
GAP = 4
AROUND = torch.tensor([0.93, 0.94, 0.96])  # neither white nor black, which a picture may be
MADE, DATA, MODE = "#c2571a", "0.65", "#1f5fa8"


def gallery(pictures: Tensor, across: int, gap: int = GAP, wide: int = WIDE) -> Any:
    """(N, C, h, w) in 0..1 -> (H, W, 3) in bytes, `across` in a row; small ones are enlarged by whole numbers."""
    count, channels, height, width = pictures.shape
    across = min(across, count)
    zoom = max(1, -(-wide // max(height, width)))
    shown = (
        pictures.detach().float().cpu().clamp(0, 1).expand(-1, 3, -1, -1) if channels == 1 else pictures.float().cpu()
    )
    shown = shown[:, :3].repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    high, broad, rows = height * zoom + gap, width * zoom + gap, -(-count // across)
    sheet = AROUND.view(3, 1, 1).repeat(1, rows * high + gap, across * broad + gap)
    for n, picture in enumerate(shown):
        top, left = n // across * high + gap, n % across * broad + gap
        sheet[:, top : top + high - gap, left : left + broad - gap] = picture
    return (sheet * 255).round().byte().permute(1, 2, 0).numpy()


def over(originals: Tensor, reconstructions: Tensor, across: int) -> Any:
    """Originals (N, C, h, w), and under each its reconstruction: (H, W, 3) in bytes, a row of each in turn."""
    pairs = [
        gallery(torch.cat([one, other]), len(one))
        for one, other in zip(originals.split(across), reconstructions.split(across), strict=True)
        if len(one) == min(across, len(originals))  # a shorter row would be of another width
    ]
    return torch.cat([torch.from_numpy(each) for each in pairs]).numpy()


def points_figure(made: Tensor, data: Tensor | None, modes: Tensor | None, title: str) -> "Figure":
    """Points (N, 2) over those of the data (M, 2), where these are at hand; crosses where modes (K, 2) are known."""
    from matplotlib.figure import Figure

    figure = Figure((5.0, 5.2), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    scatter(axes, made, data, modes)
    legend: Any = axes.legend(loc="upper right", fontsize=8, framealpha=0.8)
    for handle in legend.legend_handles:
        handle.set_sizes([20])
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def chain_figure(chain: Tensor, data: Tensor | None, shown: Sequence[int]) -> "Figure":
    """(S + 1, N, 2), from noise to samples: a chart for each of these steps, in a row, on one scale."""
    from matplotlib.figure import Figure

    figure = Figure((2.3 * len(shown), 2.6), dpi=100, layout="constrained")
    last = len(chain) - 1
    for place, step in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), place + 1)
        scatter(axes, chain[step], data, None, around=chain[:: max(1, last)].flatten(0, 1))
        axes.set_title(f"{last - step} steps to go" if step < last else "samples", fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("0.8")
    return figure


def scatter(axes: Any, made: Tensor, data: Tensor | None, modes: Tensor | None, around: Tensor | None = None) -> None:
    """On a square that holds the data and nearly all that was made, of which a few may be far off."""
    known = [each.float().cpu() for each in (data, modes, around if around is not None else made) if each is not None]
    reach = max(float(each.abs().amax(1).quantile(0.99)) for each in known) * 1.15 or 1.0
    small = {"s": 3, "linewidths": 0}
    if data is not None:
        axes.scatter(*data.float().cpu().T.numpy(), color=DATA, label="data", **small)
    axes.scatter(*made.float().cpu().T.numpy(), color=MADE, alpha=0.6, label="made up", **small)
    if modes is not None:
        axes.scatter(*modes.cpu().T.numpy(), color=MODE, marker="+", s=60, linewidths=1, label="modes")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
