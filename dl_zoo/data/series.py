"""Windows of one long series: some steps of context, and the steps that follow them.

Windows overlap in all but a step, so a copy of each would be `context + horizon` times the series. `Windows` is a view:
what a batch needs is gathered as it is asked for.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from dl_zoo.data.memory import MemoryData, Split, at_least_one
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError

SPLITS = ("train", "val", "test")


class Windows:
    """To the loader a tensor (N, length, F), of `values` (steps, F): window i begins at `starts[i]`. See `sources`.

    >>> windows = Windows(torch.arange(5.0)[:, None], torch.tensor([0, 2]), 3)
    >>> windows.index_select(0, torch.tensor([1])).flatten().tolist()
    [2.0, 3.0, 4.0]
    """

    def __init__(self, values: Tensor, starts: Tensor, length: int):
        self.values, self.starts, self.length = values, starts, length

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), self.length, self.values.shape[1]))

    @property
    def device(self) -> torch.device:
        return self.values.device

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        places = self.starts[index, None] + torch.arange(self.length, device=self.starts.device)  # (B, length)
        return self.values.index_select(0, places.flatten()).unflatten(0, places.shape)

    def chosen(self, index: Tensor) -> "Windows":
        return Windows(self.values, self.starts[index], self.length)

    def to(self, device: torch.device) -> "Windows":
        return Windows(self.values.to(device), self.starts.to(device), self.length)


class SeriesData(MemoryData):
    """Inputs (B, context, F) and targets (B, horizon, K), float32; the K columns to forecast are the first of the F.

    Values are scaled: less the mean of a column's training part, by its deviation there. `normalisation` keeps both,
    with the names of the columns, and travels in the checkpoint.

    Every window of a split has its targets there, and none elsewhere. What lies before the targets of validation and
    of test may reach back into the split before, as in the papers: it was known by then.

    Args:
        context: steps that the net sees.
        horizon: steps to forecast.
    """

    def __init__(self, dims: Mapping[str, Any], *, context: int = 96, horizon: int = 24, **settings: Any):
        super().__init__(dims, **settings)
        at_least_one("context", context)
        at_least_one("horizon", horizon)
        self.context, self.horizon = context, horizon
        self.classes = []  # numbers are no classes
        self.targets = 0  # columns to forecast
        self.normalisation: dict[str, Any] | None = None

    def measured(self) -> tuple[Tensor, list[str], int, list[int]]:
        """Values (steps, F) float64, their names, how many of them are targets, and where each split ends."""
        raise NotImplementedError

    def read(self) -> dict[str, Split]:
        values, columns, self.targets, ends = self.measured()
        known = values[: ends[0]]
        mean, std = known.mean(0), known.std(0, correction=0)
        std = torch.where(
            std > 1e-12 * mean.abs().clamp(min=1), std, 1.0
        )  # a column that never changes is 0 throughout
        self.normalisation = {"columns": columns, "targets": self.targets, "mean": mean.tolist(), "std": std.tolist()}
        scaled = ((values - mean) / std).float()
        return dict(zip(SPLITS, self.windows(scaled, ends), strict=True))

    def windows(self, scaled: Tensor, ends: list[int]) -> Iterable[Any]:
        """Those of each split. UserError where one has too few steps."""
        targets, begins = scaled[:, : self.targets].contiguous(), [self.context, *ends[:-1]]
        for name, begin, end in zip(SPLITS, begins, ends, strict=True):
            count = end - begin - self.horizon + 1
            if count < 1:
                have = f"has {end - begin + (self.context if name == 'train' else 0):,} steps"
                needed = f"a context of {self.context} and " * (name == "train") + f"a horizon of {self.horizon}"
                raise UserError(f"{name} split: {have}, too few for {needed}; a longer series, or smaller numbers")
            first = torch.arange(begin, begin + count)  # of the targets
            yield Windows(scaled, first - self.context, self.context), Windows(targets, first, self.horizon)

    def _check_targets(self, split: str, targets: Any) -> None:
        pass  # no classes

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        size = inputs.shape[2]
        return {"input_size": size, "context": self.context, "horizon": self.horizon, "num_targets": self.targets}

    def pretended_windows(self, items: int, size: int, targets: int, generator: Generator) -> Split:
        values = torch.randn(items + self.context + self.horizon, size, generator=generator)
        self.targets, first = targets, torch.arange(items)
        later: Any = Windows(values[:, :targets].contiguous(), first + self.context, self.horizon)
        return Windows(values, first, self.context), later
