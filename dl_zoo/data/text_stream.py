"""One long text read in order, for nets that carry their state from batch to batch.

The text is cut into as many pieces as a batch has rows; batch k holds the k-th window of each piece, so that row b of a
batch goes on where row b of the one before it stopped. Nothing is shuffled: the order is the point.
"""

from typing import Any

import torch
from torch import Tensor

from dl_zoo.data.memory import seeded
from dl_zoo.data.python_docs import documentation
from dl_zoo.data.text import IGNORED, Batches
from dl_zoo.data.text_file import TextFile
from dl_zoo.errors import UserError


class StreamLoader(Batches):
    """Inputs (B, T) and the token that follows each, targets (B, T), both int64.

    In training the first piece begins at a place in 0..T-1 that each epoch draws anew, and what does not fill a window
    of all pieces is left out. In evaluation every token but the first is a target exactly once; what is missing from
    the last windows is `fill` in the inputs and -100 in the targets.

    `batch_size` counts rows, over all ranks. UserError: a text too short for one window a row.
    """

    def __init__(
        self,
        ids: Tensor,
        *,
        context: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        fill: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        if batch_size < world_size:
            raise UserError(f"data.batch_size={batch_size}: fewer than one item for each of {world_size} processes")
        self.ids, self.context, self.rows, self.fill = ids, context, batch_size, fill
        targets = len(ids) - 1
        if shuffle:
            self.length = (targets - (context - 1)) // batch_size // context
            self.piece = self.length * context
            if not self.length:
                needed = (batch_size + 1) * context
                raise UserError(
                    f"train split: {len(ids)} tokens, and {batch_size} rows of data.context={context} need {needed};"
                    " take a longer text or a smaller data.batch_size"
                )
        else:
            self.piece = -(-targets // batch_size)
            self.length = -(-self.piece // context)

    def plan(self, epoch: int) -> int:
        """Where the first piece begins."""
        return int(torch.randint(self.context, (1,), generator=seeded(self.seed, epoch))) if self.shuffle else 0

    def taken(self, plan: int, batch: int) -> tuple[Tensor, Tensor]:
        within = torch.arange(batch * self.context, (batch + 1) * self.context + 1)  # (T + 1,)
        starts = torch.arange(self.rows)[self.rank :: self.world_size] * self.piece + plan
        places = starts[:, None] + within  # (B, T + 1)
        rows = self.ids[places.clamp(max=len(self.ids) - 1).to(self.ids.device)].long()
        inputs, targets = rows[:, :-1], rows[:, 1:]
        if self.shuffle:
            return inputs, targets
        beyond = (within[1:] > self.piece) | (places[:, 1:] >= len(self.ids))  # another piece's, or nobody's
        beyond = beyond.to(self.ids.device)
        return inputs.masked_fill(beyond, self.fill), targets.masked_fill(beyond, IGNORED)


class TextStream(TextFile):
    """Settings: see TextFile; without `path` the text is Python's documentation (see python_docs)."""

    origin = "text_stream"

    def text(self) -> str:
        return documentation() if self.path is None else super().text()

    def batches(self, split: str, shuffle: bool, rank: int, world_size: int) -> Batches:
        settings: dict[str, Any] = {"context": self.context, "batch_size": self.batch_size, "seed": self.seed}
        ranks = {"rank": rank, "world_size": world_size}
        return StreamLoader(self.splits[split], shuffle=shuffle, fill=self.dims["pad_id"] or 0, **settings, **ranks)
