"""Causal convolutions with growing dilation over the past, and the next steps all at once.

Bai, Kolter, Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling",
2018, arXiv:1803.01271, section 3; of series Borovykh, Bohte, Oosterlee 2017, arXiv:1703.04691. A block of level l, from
0 to depth - 1, holds two convolutions whose taps are 2^l steps apart,

    h = relu(conv(relu(conv(x)))),  out = relu(x + h)

each padded with zeros at the left alone, so that no output sees a later step. The last of them sees

    1 + 2 (kernel - 1) (2^depth - 1)     steps: 125 with 5 levels of kernel 3

and a linear layer makes all forecasts of it.

Departures: no weight normalisation; forecasts upon a base (see `forecasts`). Width 16, of our choice.

Letters: as in `forecasts`, and W width.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.forecasts import forecast, require, shown


class Block(nn.Module):
    """(N, W in, T) -> (N, W, T); output t is of inputs up to t."""

    def __init__(self, inputs: int, width: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(inputs, width, kernel, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.skip = nn.Conv1d(inputs, width, 1) if inputs != width else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = self.dropout(torch.relu(self.conv1(F.pad(x, (self.reach, 0)))))
        h = self.dropout(torch.relu(self.conv2(F.pad(h, (self.reach, 0)))))
        return torch.relu(self.skip(x) + h)


class ForecasterCNN(nn.Module):
    """Forecasts (B, H, K) from windows (B, T, F), T as long as it likes.

    Args:
        input_size: columns F; `num_targets` of them, the first, are forecast, `horizon` steps.
        base: what the answer is added to: "last" value, the values a "season" ago, "none".
        season: steps.
        context: steps T that it will be shown; only base "season" minds how many.
        separate: each column by itself, all by the same weights.

    >>> net = ForecasterCNN()
    >>> sum(p.numel() for p in net.parameters())  # 64 + 784 + 32; 4 * 2 * 784; 17 * 24
    7560
    >>> net(torch.randn(2, 96, 7)).shape
    torch.Size([2, 24, 7])
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(
        self,
        input_size: int = 7,
        horizon: int = 24,
        num_targets: int = 7,
        context: int = 96,
        width: int = 16,
        depth: int = 5,
        kernel: int = 3,
        dropout: float = 0.0,
        base: str = "last",
        season: int = 24,
        separate: bool = True,
    ):
        super().__init__()
        require(
            base, season, context, input_size, num_targets, horizon=horizon, width=width, depth=depth, kernel=kernel
        )
        self.targets, self.base, self.season, self.separate = num_targets, base, season, separate
        inputs, outputs = (1, horizon) if separate else (input_size, horizon * num_targets)
        levels = [Block(width if level else inputs, width, kernel, 2**level, dropout) for level in range(depth)]
        self.layers = nn.Sequential(*levels)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers(shown(x, self.targets, self.base, self.separate).transpose(1, 2))  # (N, W, T)
        return forecast(self.head(h[:, :, -1]), x, self.targets, self.base, self.season)
