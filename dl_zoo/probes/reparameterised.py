"""Two estimates of one gradient: through the noise of a draw, or by the score of the draw's distribution.

Kingma, Welling, "Auto-Encoding Variational Bayes", 2013, arXiv:1312.6114, sections 2.2 to 2.4. With z = m + s * noise
and f(z) = log p(x | z), both are unbiased for d E f(z) / d(m, log s^2):

    reparameterised   (f'(z), f'(z) * s * noise / 2)
    score function    f(z) * (noise / s, (noise^2 - 1) / 2)

The second is REINFORCE (Williams 1992), which section 2.2 calls impractical here, since its variance is very high.
A constant taken from f changes no mean of the second and lowers its variance: the mean of f over the other draws of the
same picture, which is the strongest baseline that costs no net of its own, is tried, too.
"""

import math
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.probes.bounds import explained


def reparameterised(task: Any, data: Any, *, draws: int = 100, items: int = 100, cut: bool = False) -> dict[str, float]:
    """Over the first `items` validation pictures, the variance over `draws` one-sample gradients of what is
    reconstructed by the posterior's moments, mean and log variance, summed over these, mean over pictures:

        reparameterised/variance   through the noise
        reparameterised/score      by the score function, f less the mean over the other draws
        reparameterised/plain      by the score function, f as it is
        reparameterised/log_ratio, log_ratio_plain    log10 of the first over the second, and over the third
        reparameterised/apart      the distance of the means of the first two, in deviations of the second's mean

    `cut` leaves the first no path through z, as where z is drawn and not computed: then the score is all there is.

    Raises:
        UserError: fewer than 3 draws, no items, or a task without latents.
    """
    if draws < 3 or items < 1:
        raise UserError(f"draws={draws}, items={items}: must be at least 3 and 1")
    if not hasattr(task, "log_weights"):
        raise UserError("reparameterised: this task has no latents; task=vae")
    sums, count = dict.fromkeys(("variance", "score", "plain", "far", "error"), 0.0), 0
    for x, classes in explained(task, data, items):
        for name, value in of_pictures(task, x, classes, draws, cut).items():
            sums[name] += float(value.sum())
        count += len(x)
    found = {name: sums[name] / count for name in ("variance", "score", "plain")}
    found["log_ratio"] = math.log10(found["variance"] / found["score"])
    found["log_ratio_plain"] = math.log10(found["variance"] / found["plain"])
    found["apart"] = math.sqrt(sums["far"] / sums["error"])
    return {f"reparameterised/{name}": value for name, value in found.items()}


def of_pictures(task: Any, x: Tensor, classes: Tensor | None, draws: int, cut: bool = False) -> dict[str, Tensor]:
    """Variances of the three, and how far apart the first two's means are, squared, beside what chance makes: (B,)."""
    with torch.no_grad():
        mean, log_variance = task.net.encode(x, classes)
        spread = (log_variance / 2).exp()
    noise = torch.randn(draws, *mean.shape, device=mean.device)
    f, slope = explained_by(task, x, mean + spread * noise, classes)  # (D, B), (D, B, L)
    directions = torch.cat([noise / spread, (noise.square() - 1) / 2], dim=2)  # of log q by its moments, (D, B, 2L)
    others = (f.sum(0) - f) / (draws - 1)
    through = torch.cat([slope, slope * spread * noise / 2], dim=2)
    score, plain = (f - others)[:, :, None] * directions, f[:, :, None] * directions
    through = score if cut else through
    found = {"variance": through.var(0).sum(1), "score": score.var(0).sum(1), "plain": plain.var(0).sum(1)}
    far = (through.mean(0) - score.mean(0)).square().sum(1)
    return found | {"far": far, "error": found["score"] / draws}


def explained_by(task: Any, x: Tensor, z: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor]:
    """log p(x | z) for codes (D, B, L): (D, B), and its gradient by z: (D, B, L)."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        f = task.log_likelihood(x, task.net.decode(z, classes))
        (slope,) = torch.autograd.grad(f.sum(), z)
    return f.detach(), slope
