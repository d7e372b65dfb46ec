"""Max-norm: after every step, a unit whose incoming weights are longer than the bound is scaled back to it.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout", 2014, JMLR 15, section 5.1: with dropout it allows
large learning rates, since weights cannot blow up; c = 3 to 4 there. The idea is Srebro and Shraibman's, 2005.
"""

from typing import Any

import torch
from pytorch_lightning import Callback
from torch import nn

from dl_zoo.errors import UserError


@torch.no_grad()
def max_norm(net: nn.Module, bound: float) -> None:
    """Each row of every trained weight gets an L2 norm of at most `bound`, in place.

    A row is what comes into one unit or filter; in LeNet-5's C3 of 1998, whose links are apart, it is one link.
    """
    for weight in net.parameters():
        if weight.dim() > 1 and weight.requires_grad:
            weight.copy_(torch.renorm(weight, p=2, dim=0, maxnorm=bound))


class MaxNorm(Callback):
    def __init__(self, bound: float):
        if not bound > 0:
            raise UserError(f"regularizer.max_norm.bound={bound}: must be above 0")
        self.bound = bound

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        max_norm(pl_module.net, self.bound)
