"""Noise on the gradient that fades with the steps, so that a deep net leaves a poor start.

Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015, arXiv:1511.06807, eq. 1:
g_t <- g_t + N(0, sigma_t^2), sigma_t^2 = eta / (1 + t)^gamma.
"""

from typing import Any

import torch
from pytorch_lightning import Callback

from dl_zoo.errors import UserError


class GradientNoise(Callback):
    """Draws from torch's global generator, whose state the checkpoints keep; before clipping, as in the paper."""

    def __init__(self, eta: float = 0.01, gamma: float = 0.55):
        if eta < 0:
            raise UserError(f"regularizer.gradient_noise.eta={eta}: must be at least 0")
        self.eta, self.gamma = eta, gamma

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        deviation = (self.eta / (1 + trainer.global_step) ** self.gamma) ** 0.5
        for parameter in pl_module.net.parameters():
            if parameter.grad is not None:
                parameter.grad.add_(torch.randn_like(parameter.grad), alpha=deviation)
