"""Does the Fréchet distance rise as pictures get worse? Real ones, disturbed step by step, and no generator.

Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local
Nash Equilibrium", 2017, arXiv:1706.08500, figure 3: noise, blur and other disturbances, each rising, on CelebA. Here
also classes that are left out, as by a generator that collapsed, which no look at single pictures shows.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.features import seen_by
from dl_zoo.measures.frechet import frechet_distance
from dl_zoo.measures.inception_score import inception_score

NOISE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # deviation, of pixels in 0..1
BLUR = (0.0, 0.5, 1.0, 1.5, 2.0)  # deviation of the kernel, in pixels
DROPPED = (0.0, 0.2, 0.4, 0.6, 0.8)  # share of the classes, the last ones
TINY = 1e-12  # of a distance whose logarithm is taken


@torch.no_grad()
def fid_behaves(task: Any, data: Any, *, items: int = 2000, shuffled: bool = False) -> dict[str, float]:
    """Of a trained classifier: distances, in what its head reads, from test pictures to as many training pictures, of
    which the latter are disturbed. Both are drawn at random.

        fid_behaves/noise/0 ..      by level; the first is undisturbed, real against real
        fid_behaves/blur/0 ..
        fid_behaves/classes/0 ..    so many pictures of the classes that are left
        fid_behaves/<which>_step    the smallest log10 of a distance over that one level below it: above 0 they rise
        fid_behaves/floor           the undisturbed one
        fid_behaves/is              inception score of the test pictures

    Args:
        items: pictures on each side, or as many as there are.
        shuffled: each level has a disturbance that is drawn of all of them: what is measured is then not what is said.
    Raises:
        UserError: data without pictures in memory, or `items` below 2.
    """
    real, _ = drawn(data, "test", items)
    features, logits = seen(task, data, real)
    known, classes = drawn(data, "train", None)
    found = {"is": inception_score(logits)}
    kinds: dict[str, tuple[tuple[float, ...], Callable[[float], Tensor]]] = {
        "noise": (NOISE, lambda level: noisy(known[:items], level)),
        "blur": (BLUR, lambda level: blurred(known[:items], level)),
        "classes": (DROPPED, lambda level: known[classes < round((1 - level) * len(data.classes))][:items]),
    }
    for kind, (levels, disturbed) in kinds.items():
        order = torch.randperm(len(levels)).tolist() if shuffled else range(len(levels))
        seen_so = [seen(task, data, disturbed(levels[i]))[0] for i in order]
        distances = [max(TINY, frechet_distance(each, features)) for each in seen_so]
        found |= {f"{kind}/{i}": distance for i, distance in enumerate(distances)}
        found[f"{kind}_step"] = min(math.log10(after / before) for before, after in pairwise(distances))
    found["floor"] = found["noise/0"]
    return {f"fid_behaves/{name}": value for name, value in found.items()}


def drawn(data: Any, split: str, items: int | None) -> tuple[Tensor, Tensor]:
    """Pictures (N, C, H, W) in 0..1 and classes (N,), in random order; at most `items` of them."""
    inputs, targets = data.splits[split]
    if not isinstance(inputs, Tensor) or inputs.dtype != torch.uint8 or not data.normalisation:
        raise UserError("fid_behaves: it disturbs pictures in memory, and these data have none; data=mnist")
    if items is not None and items < 2:
        raise UserError(f"probe.fid_behaves.items={items}: must be at least 2")
    order = torch.randperm(len(inputs))[:items].to(inputs.device)
    return inputs[order].cpu() / 255, targets[order.to(targets.device)].cpu()


def seen(task: Any, data: Any, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, F) and logits (N, K) of pictures (N, C, H, W) in 0..1."""
    device = next(task.net.parameters()).device
    mean, std = (torch.tensor(data.normalisation[key]).view(-1, 1, 1) for key in ("mean", "std"))
    batches: Iterator[Tensor] = (((some - mean) / std).to(device) for some in pictures.split(500))
    features, logits = zip(*(seen_by(task.net, batch) for batch in batches), strict=True)
    return torch.cat(features).cpu(), torch.cat(logits).cpu()


def noisy(pictures: Tensor, deviation: float) -> Tensor:
    return (pictures + deviation * torch.randn(pictures.shape)).clamp(0, 1)


def blurred(pictures: Tensor, deviation: float) -> Tensor:
    """(B, C, H, W), by a Gaussian kernel to four deviations on both sides; what is outside is black."""
    if not deviation:
        return pictures
    reach = math.ceil(4 * deviation)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * deviation**2))
    kernel = kernel / kernel.sum()
    one_by_one = pictures.flatten(0, 1).unsqueeze(1)  # (B * C, 1, H, W)
    across = F.conv2d(one_by_one, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(across, kernel.view(1, 1, -1, 1), padding=(reach, 0)).view_as(pictures)
