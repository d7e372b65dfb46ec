"""Text in TensorBoard: what a language model writes and how a translator translates, while they learn.

Tags: `generated/text`, the first tokens of the validation text and how the net goes on; `generated/translations`, a
table of sentences, references and answers, where the task keeps some as `examples`. The draws come from a generator of
this file's own: a run with these texts equals one without to the bit, and a resumed run writes the same ones.
"""

import html
import re
from collections.abc import Sequence
from textwrap import indent
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from dl_zoo.callbacks.maps import undisturbed
from dl_zoo.callbacks.pictures import is_due, writers
from dl_zoo.decoding import continued
from dl_zoo.stepwise import Stepwise

PROMPT = 32  # tokens of the validation text: half of the smallest context in use
LENGTH = 300  # tokens to write: some ten lines of characters
TEMPERATURE = 0.8
SEED = 0


class Texts(Callback):
    """After an epoch's validation, evenly spread over the run, about ten times."""

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:  # place: batch, and loader where there are several. The first: averaged weights, if any, are in the net
        words = getattr(trainer.datamodule, "words", None)  # type: ignore[attr-defined]
        if any(place) or words is None or not getattr(pl_module, "writes", False) or not is_shown(trainer):
            return
        prompt = batch[0][:1, :PROMPT].clone()  # (1, P)
        written = generated(pl_module.net, prompt, LENGTH)  # type: ignore[arg-type]
        say(trainer, "generated/text", continuation(words, prompt[0].tolist(), written))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        examples = getattr(pl_module, "examples", None)
        if examples and is_shown(trainer):
            say(trainer, "generated/translations", table(("source", "reference", "translation"), examples))


def is_shown(trainer: Trainer) -> bool:
    training = trainer.state.fn == "fit" and not trainer.sanity_checking
    return training and bool(writers(trainer)) and is_due(trainer.current_epoch + 1, trainer.max_epochs)


def generated(net: nn.Module, prompt: Tensor, length: int) -> list[int]:
    """So many ids after a prompt (1, P); the net and all random states are left as they were."""
    own = torch.Generator(prompt.device).manual_seed(SEED)
    net = getattr(net, "_orig_mod", net)  # a compiled net would compile anew at every length
    with undisturbed(net, prompt.device), torch.no_grad():
        return [
            int(token) for token in continued(Stepwise(net), prompt, length, temperature=TEMPERATURE, generator=own)
        ]


def continuation(words: Any, prompt: Sequence[int], written: Sequence[int]) -> str:
    """Markdown: the whole text as it is, and above it where the net begins."""
    begun, whole = words.decode([*prompt]), words.decode([*prompt, *written])
    return f"The net begins after {begun[-PROMPT // 2 :]!r}.\n\n{indent(whole, '    ', lambda line: True)}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown.

    >>> print(table(("source", "answer"), [("a|b *", "<unk>")]))
    | source | answer |
    | --- | --- |
    | a\\|b \\* | &lt;unk&gt; |
    """
    lines = [heads, ["---"] * len(heads), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """What Markdown shows as this text, in one line."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def say(trainer: Trainer, tag: str, text: str) -> None:
    for writer in writers(trainer):
        if hasattr(writer, "add_text"):
            writer.add_text(tag, text, trainer.global_step)
