"""The pictures of a classifier, drawn: each function makes a figure or an array of it, and knows no trainer."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:  # matplotlib takes 0.3 s to import: only where something is drawn
    from matplotlib.figure import Figure

NUMBERED = 30  # classes: with more, the counts in the confusion matrix no longer fit their cells
MATRIX = 200  # classes: with more, a cell of the matrix is below 3 pixels
LISTED = 25  # mix-ups, where there is no matrix
STRIPS = 8  # clips: a strip of frames each
ACROSS = 8  # cells in a row of activations, of which there are two


def grid(weights: Tensor) -> Any:
    """(N, C, h, w) -> (H, W, 3) in bytes: each filter scaled to its own range and enlarged to about 48 pixels."""
    from torchvision.utils import make_grid

    low, high = weights.amin((1, 2, 3), keepdim=True), weights.amax((1, 2, 3), keepdim=True)
    weights = ((weights - low) / (high - low).clamp(min=1e-12)).nan_to_num()
    zoom = max(1, round(48 / max(weights.shape[2:])))
    weights = weights.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    picture = make_grid(weights, nrow=8 if len(weights) <= 64 else 16, padding=4, pad_value=-1.0)
    border = torch.tensor([0.55, 0.7, 0.9]).reshape(3, 1, 1)  # no grey, which could be a weight
    return (picture.where(picture >= 0, border) * 255).round().byte().permute(1, 2, 0).numpy()


def confusion_figure(counts: Tensor, names: Sequence[str], title: str) -> "Figure":
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    classes, right, total = len(names), int(counts.trace()), int(counts.sum())
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    small = classes <= NUMBERED
    side = 2 + 0.45 * classes if small else 8
    figure = Figure((max(4.5, side), max(4, side)), dpi=100, layout="constrained")
    axes = figure.add_subplot(
        title=f"{title}: {right / max(1, total):.1%} right ({right:,} of {total:,})", xlabel="predicted", ylabel="true"
    )
    # The square root brings out the rare mix-ups: 1 % has a tenth of the full colour.
    image = axes.imshow(share.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    if small:
        labels = list(names)
        turned: dict[str, Any] = (
            {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, labels)) > 3 else {}
        )
        axes.set_xticks(range(classes), labels, parse_math=False, **turned)
        axes.set_yticks(range(classes), labels, parse_math=False)
        for i, j in counts.nonzero().tolist():
            colour = "white" if share[i, j] > 0.4 else "black"
            axes.text(j, i, f"{int(counts[i, j])}", ha="center", va="center", fontsize=8, color=colour)
    else:
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def mixups_figure(counts: Tensor, names: Sequence[str], title: str) -> "Figure":
    """The most frequent pairs of true and predicted class, for so many classes that their matrix is dust."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    right, total = int(counts.trace()), int(counts.sum())
    wrong = counts - counts.diag().diag()
    times, cells = wrong.flatten().topk(LISTED)
    shown = int((times > 0).sum())
    pairs = [(int(cell) // len(names), int(cell) % len(names)) for cell in cells[:shown]]
    figure = Figure((8, max(2, 1 + 0.27 * shown)), dpi=100, layout="constrained")
    head = f"{title}: {right / max(1, total):.1%} right ({right:,} of {total:,}); the most frequent mistakes"
    figure.suptitle(head, fontsize=11)
    axes = figure.add_subplot(xlabel="times")
    axes.barh(range(shown), times[:shown].tolist(), color="tab:blue", height=0.7)
    axes.set_yticks(range(shown), [f"{names[i]} → {names[j]}" for i, j in pairs], parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    return figure


def samples_figure(
    kept: Sequence[Tensor], counts: Tensor, names: Sequence[str], title: str, pixels: Tensor
) -> "Figure":
    """`kept`: worth, confidence, target and prediction (N,) of `pixels` (N, C, H, W) in 0..1."""
    from matplotlib.figure import Figure

    _, confidence, target, prediction = (rows.cpu() for rows in kept[:4])
    mistakes, shown, title = which(kept[0], counts, title)
    cells = pixels.permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    rows = math.ceil(shown / 5)
    height = 0.35 + 1.95 * rows
    figure = Figure((8, height), dpi=100)
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height, va="top")
    # One pair of axes for all, at 1.5 inches a unit: 25 pairs take ten times as long. A picture is 1 wide and high.
    axes = figure.add_axes((0.07 / 8, 0, 7.86 / 8, 1 - 0.35 / height))
    axes.axis("off")
    for n in range(shown):
        x, y = n % 5 * 1.06, n // 5 * 1.3
        axes.imshow(cells[n], extent=(x, x + 1, y + 1, y), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        true, predicted = (names[int(labels[n])] for labels in (target, prediction))
        caption = f"{true} → {predicted}\n{confidence[n]:.3f}" if mistakes else f"{true}\n{confidence[n]:.3f}"
        if mistakes and len(true + predicted) > 16:
            caption = f"{true} →\n{predicted}  {confidence[n]:.3f}"
        axes.text(x + 0.5, y - 0.03, caption, fontsize=8.5, ha="center", parse_math=False)
    axes.set(xlim=(0, 5.24), ylim=(rows * 1.3 - 0.25, -0.25))
    return figure


def which(worth: Tensor, counts: Tensor, title: str, most: int = 25) -> tuple[int, int, str]:
    """How many mistakes there are, how many items of this worth (N,) are shown, and a title that says it."""
    mistakes = int(counts.sum() - counts.trace())
    shown = min(most, int((worth > 0).sum()) if mistakes else int((worth > -2).sum()))
    if not mistakes:
        title += f": no mistake; the {shown} least confident right answers, with their probability"
    elif mistakes > shown:
        title += f": the {shown} most confident of {mistakes:,} mistakes: true → predicted, probability"
    else:
        title += (
            f": {'the only mistake' if mistakes == 1 else f'all {mistakes} mistakes'}: true → predicted, probability"
        )
    return mistakes, shown, title


def clips_figure(kept: Sequence[Tensor], counts: Tensor, names: Sequence[str], title: str, pixels: Tensor) -> "Figure":
    """As `samples_figure`, of clips (N, T, C, H, W) in 0..1: a row each, at most `STRIPS`, with its frames in order."""
    from matplotlib.figure import Figure

    _, confidence, target, prediction = (rows.cpu() for rows in kept[:4])
    mistakes, shown, title = which(kept[0], counts, title, STRIPS)
    frames = pixels.shape[1]
    left, cell = 1.7, min(0.8, 8 / frames)  # inches
    width, height = left + 1.05 * cell * frames, 0.35 + 1.08 * cell * shown
    figure = Figure((max(8, width), height), dpi=100)
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height, va="top")
    axes = figure.add_axes((0, 0, width / max(8, width), 1 - 0.35 / height))
    axes.axis("off")
    for n in range(shown):
        top = 1.08 * cell * n
        for t in range(frames):
            x = left + 1.05 * cell * t
            picture = pixels[n, t].permute(1, 2, 0).numpy()
            extent = (x, x + cell, top + cell, top)
            axes.imshow(picture, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        true, predicted = (names[int(labels[n])] for labels in (target, prediction))
        caption = f"{true} →\n{predicted}  {confidence[n]:.3f}" if mistakes else f"{true}\n{confidence[n]:.3f}"
        axes.text(0.08, top + cell / 2, caption, fontsize=8.5, va="center", parse_math=False)
    axes.set(xlim=(0, width), ylim=(height - 0.35, 0))
    return figure


def activations_figure(maps: Tensor, pixels: Tensor, title: str) -> "Figure":
    """The picture (C, H, W) in 0..1, and beside it the first 15 of its maps (N, h, w), each in its own range."""
    from matplotlib.figure import Figure

    size, shown = "x".join(map(str, maps.shape[1:])), 2 * ACROSS - 1
    title += f": {len(maps)} map{'s' if len(maps) > 1 else ''} of {size}"
    title += f", the first {shown}" if len(maps) > shown else ""
    maps = maps[:shown].float().cpu()
    rows = 1 if len(maps) < ACROSS else 2
    figure = Figure((8, 0.4 + rows), dpi=100)
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / (0.4 + rows), va="top", parse_math=False)
    axes = figure.add_axes((0.005, 0, 0.99, rows / (0.4 + rows)))
    axes.axis("off")
    for n, cell in enumerate([pixels.permute(1, 2, 0), *maps]):
        x, y = n % ACROSS * 1.03, n // ACROSS * 1.03
        look: dict[str, Any] = {"cmap": "viridis"} if n else {"cmap": "gray", "vmin": 0, "vmax": 1}
        axes.imshow(cell.numpy(), extent=(x, x + 1, y + 1, y), interpolation="nearest", **look)
    axes.set(xlim=(0, 1.03 * ACROSS), ylim=(1.03 * rows, 0))
    return figure


def heated(pixels: Tensor, heat: Tensor) -> Tensor:
    """Pictures (N, C, H, W) in 0..1, grey, under colours of `heat` (N, h, w) in 0..1 that hide only what is hot.

    (N, 3, Z, Z'), enlarged to at least 96 pixels, so that a coarse map does not end at the picture's own pixels.
    """
    from matplotlib import colormaps

    zoom = max(1, math.ceil(96 / min(pixels.shape[2:])))
    grey = pixels.mean(1, keepdim=True).repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    heat = F.interpolate(heat[:, None], grey.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    colours = torch.from_numpy(colormaps["inferno"](heat.numpy())[..., :3]).permute(0, 3, 1, 2)
    opacity = 0.7 * heat[:, None]
    return ((1 - opacity) * grey + opacity * colours).float()


def denormalised(pictures: Tensor, normalisation: Mapping[str, Any] | None) -> Tensor:
    """Back to 0..1; from each picture's own range where nothing is known."""
    pictures = pictures.float()
    if normalisation:
        mean, std = (torch.tensor(normalisation[key], dtype=torch.float).reshape(-1, 1, 1) for key in ("mean", "std"))
        return (pictures * std + mean).clamp(0, 1)
    low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
    return (pictures - low) / (high - low).clamp(min=1e-12)


def shorten(name: str, length: int) -> str:
    """
    >>> shorten("golden retriever", 10), shorten("cat", 10)
    ('gold…iever', 'cat')
    """
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-(length // 2) :]}"


def render(figure: "Figure") -> Any:
    """(H, W, 3) in bytes, on a canvas of its own: the process's matplotlib backend stays as it is."""
    import numpy
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class name's letter that the font lacks is drawn as a box
        canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3].copy()
