"""Several tensors of the same items, for nets of several inputs: words with their spelling, sequences with lengths.

To the loader `Columns` is one tensor (see `sources`). A batch of it is a tuple, which the net takes as `net(*inputs)`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Side(tuple[Tensor, ...]):
    """Tensors side by side. int64 vectors (B,) are lengths, which torch's kernels want on the host: they stay there."""

    @property
    def device(self) -> torch.device:
        return self[0].device

    def pin_memory(self) -> "Side":
        return Side(each.pin_memory() for each in self)

    def to(self, *args: Any, **kwargs: Any) -> "Side":
        return Side(each if is_lengths(each) else each.to(*args, **kwargs) for each in self)


def is_lengths(column: Tensor) -> bool:
    return column.dtype == torch.int64 and column.dim() == 1


class Columns:
    """Tensors (N, ...), a row an item; the first stands for all where one shape or device is asked for.

    >>> words, lengths = Columns([torch.zeros(3, 5), torch.tensor([5, 2, 4])]).index_select(0, torch.tensor([2, 0]))
    >>> words.shape, lengths.tolist()
    (torch.Size([2, 5]), [4, 5])
    """

    def __init__(self, tensors: Iterable[Tensor]):
        self.tensors = Side(tensors)
        counts = [len(each) for each in self.tensors]
        if len(set(counts)) != 1:
            raise ValueError(f"columns of one set have as many rows each, not {counts}")

    def __len__(self) -> int:
        return len(self.tensors[0])

    @property
    def shape(self) -> torch.Size:
        return self.tensors[0].shape

    @property
    def device(self) -> torch.device:
        return self.tensors.device

    def index_select(self, dim: int, index: Tensor) -> Any:  # a Side
        return Side(each.index_select(dim, index.to(each.device)) for each in self.tensors)

    def to(self, device: torch.device) -> "Columns":
        return Columns(self.tensors.to(device))

    def chosen(self, index: Tensor) -> "Columns":
        return Columns(self.index_select(0, index))
