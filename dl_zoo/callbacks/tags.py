"""Tags in TensorBoard, `samples/tags`: the first sentences of validation as the net tags them, while it learns.

Wrong tags are bold, with the right one behind: light/**NOUN** (ADJ).
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from dl_zoo.callbacks.texts import is_shown, plain, say

SHOWN = 8  # sentences


class Tags(Callback):
    """After an epoch's validation, evenly spread over the run, about ten times; of data with sentences (`said`)."""

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:  # place: batch, and loader where there are several
        said = getattr(trainer.datamodule, "said", None)  # type: ignore[attr-defined]
        if any(place) or not said or not is_shown(trainer):
            return
        tags = outputs["output"].argmax(-1).view(batch[1].shape).tolist()  # (B, T)
        classes = trainer.datamodule.classes  # type: ignore[attr-defined]
        own = islice(said["val"], trainer.global_rank, None, trainer.world_size)
        rows = ([classes[each] for each in row] for row in tags)
        lines = [told(words, right, row) for (words, right), row in zip(own, rows, strict=False)]
        say(trainer, "samples/tags", "\n\n".join(lines[:SHOWN]))


def told(words: Sequence[str], right: Sequence[str], tags: Sequence[str]) -> str:
    """Markdown; behind the sentence's end `tags` may go on.

    >>> told(["A", "light", "*"], ["DET", "NOUN", ""], ["DET", "ADJ", "SYM", "SYM"])
    'A/DET light/**ADJ** (NOUN) \\\\*/SYM'
    """
    return " ".join(
        f"{plain(word)}/{tag}" if wanted in (tag, "") else f"{plain(word)}/**{tag}** ({wanted})"
        for word, wanted, tag in zip(words, right, tags, strict=False)
    )
