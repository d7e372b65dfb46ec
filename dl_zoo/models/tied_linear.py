"""One weight used twice: the smallest linear net whose loss has a local minimum that is not the best.

A recurrent unit without a nonlinearity, h_t = w (h_(t-1) + x_t) from h_0 = 0, run for two steps, is a net of two layers
that share their weight (Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986,
Nature 323, figure 5):

    answer = w (w x_1 + x_2) = w^2 x_1 + w x_2

Baldi, Hornik, "Neural Networks and Principal Component Analysis: Learning from Examples Without Local Minima", 1989,
Neural Networks 2(1), show that two linear layers with weights of their own have saddles and no such minimum. With two
weights the answer would be w_2 w_1 x_1 + w_2 x_2, which is whatever w_2 and w_1 w_2 are; tied, the two cannot be chosen
apart, and a squared error is a polynomial of degree four in w: see `data=double_well`.
"""

import torch
from torch import Tensor, nn


class TiedLinear(nn.Module):
    """`copies` such nets side by side: (B, copies, 2) -> (B, copies), each with a weight of its own from `start` on.

    >>> net = TiedLinear(copies=3, start=-1.0)
    >>> sum(p.numel() for p in net.parameters())
    3
    >>> net(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 5.0]]])).tolist()  # w^2 = 1, w = -1
    [[1.0, -1.0, -3.0]]
    """

    def __init__(self, copies: int = 200, start: float = -1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((copies,), start))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.unbind(2)  # (B, copies) each: x_1, x_2
        return self.weight * (self.weight * first + second)  # w (w x_1 + x_2)
