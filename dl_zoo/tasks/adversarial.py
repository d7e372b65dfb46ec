"""What the two players of an adversarial game lose, as functions of the discriminator's logits, in nats.

Goodfellow et al., "Generative Adversarial Nets", 2014, arXiv:1406.2661. With D = sigmoid(logit), so that
-log D = softplus(-logit) and -log(1 - D) = softplus(logit):

    the discriminator    -E log D(x) - E log(1 - D(G(z))) = -V(D, G)                                   (eq. 1)
    minimax              E log(1 - D(G(z))): the same V, which the generator lowers
    non_saturating       -E log D(G(z)): the same fixed point, section 3

Their gradients with respect to the logit of an item are -D and D - 1: where D is sure that it is made up (0.01), the
first is nearly nothing (0.01) and the second whole (0.99).

    wasserstein          the critic E D(G(z)) - E D(x), the generator -E D(G(z)); D is any number, and the
                         difference an estimate of the distance while D's slope is at most 1. Arjovsky, Chintala,
                         Bottou 2017, arXiv:1701.07875; the slope is held by `gradient_penalty`
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ("minimax", "non_saturating", "wasserstein")


def value(real: Tensor, fake: Tensor, loss: str = "minimax") -> Tensor:
    """V(D, G), which the discriminator raises, from logits (B,): in nats, at most 0; of a critic the difference."""
    if loss == "wasserstein":
        return real.mean() - fake.mean()
    return -F.softplus(-real).mean() - F.softplus(fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor, loss: str, smoothing: float = 0.0) -> Tensor:
    """-V, with real items' target 1 - `smoothing` instead of 1.

    One-sided: smoothing the fakes' target too would hold on to wrong items (Salimans et al. 2016, arXiv:1606.03498,
    section 3.4).
    """
    # -(1 - s) log D - s log(1 - D) = softplus(-logit) + s logit
    return smoothing * real.mean() - value(real, fake, loss)


def generator_loss(fake: Tensor, loss: str) -> Tensor:
    if loss == "wasserstein":
        return -fake.mean()
    return -F.softplus(fake).mean() if loss == "minimax" else F.softplus(-fake).mean()


def judged(logits: Tensor, loss: str) -> Tensor:
    """What is logged as D: the probability of being real, of a critic its own number."""
    return logits if loss == "wasserstein" else torch.sigmoid(logits)


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """E (||grad D|| - 1)^2 at points `share` (B,) of the way from fake to real.

    Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, "Improved Training of Wasserstein GANs", 2017, arXiv:1704.00028,
    eq. 3; times 10 there. Batch norm in the critic would make an item's gradient depend on others (section 4).
    """
    between = torch.lerp(fake.detach().to(real.dtype), real, share.view(-1, *[1] * (real.ndim - 1)))
    return (slopes(discriminator, between) - 1).square().mean()


def r1(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """E ||grad D(x)||^2 / 2 on real items: at the game's end D is flat there.

    Mescheder, Geiger, Nowozin, "Which Training Methods for GANs do actually Converge?", 2018, arXiv:1801.04406, eq. 9;
    times 10 there.
    """
    return slopes(discriminator, real).square().mean() / 2


def slopes(discriminator: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """||grad of an item's logit||, (B,), through which gradients flow on: none from where it is 0."""
    items = items.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(items).sum(), items, create_graph=True)
    return torch.linalg.vector_norm(gradient.float().flatten(1), dim=1)
