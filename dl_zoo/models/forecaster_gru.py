"""A GRU reads the past; what it remembers at the end tells the next steps, at once or one after the other.

Cho et al. 2014, arXiv:1406.1078, for the encoder (`gru`). Two ways to forecast several steps (Taieb, Bontempi, Atiya,
Sorjamaa 2012, "A review and comparison of strategies for multi-step ahead time series forecasting", arXiv:1108.3259,
section 2):

    direct       all H steps from the last state by one linear layer
    recursive    one step, which is read as if it had been seen, then the next one, and so on

Recursive needs one step's weights whatever the horizon, and its mistakes add up.

Departures: forecasts upon a base (see `forecasts`); with decode="recursive" and base="last" what is fed back is the
change since the last value seen, as the context is.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from dl_zoo.models.forecasts import forecast, require, shown
from dl_zoo.models.gru import GRU
from dl_zoo.models.recurrent import State

DECODES = ("direct", "recursive")


class ForecasterGRU(nn.Module):
    """Forecasts (B, H, K) from windows (B, T, F), and the state behind the last step read, (N, L, W).

    N is B, or B K where columns are `separate`.

    Args:
        input_size: columns F; `num_targets` of them, the first, are forecast, `horizon` steps.
        decode: "direct" or "recursive"; that needs a forecast of every column it reads.
        base, season, context, separate: as of `ForecasterCNN`; recursive goes with base "last" or "none".

    >>> net = ForecasterGRU()
    >>> sum(p.numel() for p in net.parameters())  # 3 * 32 * (1 + 32 + 2) + 33 * 24
    4152
    >>> y, (h,) = net(torch.randn(2, 96, 7))
    >>> y.shape, h.shape
    (torch.Size([2, 24, 7]), torch.Size([14, 1, 32]))
    """

    heads: ClassVar[tuple[str, ...]] = ("encoder.head",)

    def __init__(
        self,
        input_size: int = 7,
        horizon: int = 24,
        num_targets: int = 7,
        context: int = 96,
        width: int = 32,
        depth: int = 1,
        dropout: float = 0.0,
        decode: str = "direct",
        base: str = "last",
        season: int = 24,
        separate: bool = True,
    ):
        super().__init__()
        require(base, season, context, input_size, num_targets, horizon=horizon)
        if decode not in DECODES:
            raise ValueError(f"decode={decode!r} is not one of {', '.join(DECODES)}")
        if decode == "recursive" and not separate and num_targets != input_size:
            raise ValueError("decode=recursive reads its own forecasts, so it must forecast every column")
        if decode == "recursive" and base == "season":
            raise ValueError("decode=recursive goes with base=last or none: what it says is what it reads next")
        self.targets, self.horizon, self.recursive = num_targets, horizon, decode == "recursive"
        self.base, self.season, self.separate = base, season, separate
        inputs, numbers = (1, 1) if separate else (input_size, num_targets)
        outputs = numbers if self.recursive else horizon * numbers
        self.encoder = GRU(inputs, num_classes=outputs, width=width, depth=depth, dropout=dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, State]:
        y, state = self.encoder(shown(x, self.targets, self.base, self.separate))
        steps = [y]
        while self.recursive and len(steps) < self.horizon:
            y, state = self.encoder(y.unsqueeze(1), state=state)
            steps.append(y)
        return forecast(torch.cat(steps, 1), x, self.targets, self.base, self.season), state
