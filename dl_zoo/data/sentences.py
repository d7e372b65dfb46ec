"""Sentences with a class each: what data of them share, whoever wrote the sentences.

Words are what blanks separate, fitted on the training sentences; or tokens of weights that bring a vocabulary along, or
of a tokenizer.json (`tokenizer`), as it lies beside those of Hugging Face's BERT: a sentence is then [CLS] ... [SEP].
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from dl_zoo.data.columns import Columns
from dl_zoo.data.memory import MemoryData, Split, at_least_one
from dl_zoo.data.pairs import padded
from dl_zoo.data.sources import Inputs
from dl_zoo.data.text import masked, settled, special
from dl_zoo.data.text_file import must_belong, read_tokenizer, stated
from dl_zoo.data.vocabulary import PAD, SPECIALS, Vocabulary, Words
from dl_zoo.errors import UserError


class Sentences(MemoryData):
    """Inputs (B, T) int64, padded with <pad> to the longest sentence of all or cut to `context`; targets (B,).

    For masked language models the same batches will do: `mask` adds <mask>, and their targets are not looked at. A
    subclass has `classes`, `origin`, the vocabulary's `usual_size` and `texts`.

    Args:
        context: tokens of a sentence at most, <bos> included; it becomes dims.context.
        min_freq: how often a word must occur in the training sentences, or else it is <unk>.
        begin: <bos> before each sentence: the place where BERT's classifier looks.
        tokenizer: a file of the `tokenizers` library (tokenizer.json) to use instead of fitting.
        mask: one id more, the last; that of the tokenizer where it has one.
        lengths: the inputs are (ids, lengths (B,)), which recurrent nets else find by the padding.
        shuffled: the words of each sentence in random order, the same in each epoch: what is left is which they are.

    After `setup` there are also `origin` and `fingerprint`, which tell one text from another, and `lines` by split.
    """

    takes_vocabulary = True
    origin: str
    usual_size: int  # words of the training sentences, where they cannot be counted yet

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        context: int = 64,
        min_freq: int = 1,
        begin: bool = True,
        tokenizer: str | None = None,
        mask: bool = False,
        lengths: bool | None = False,
        shuffled: bool = False,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("context", context)
        at_least_one("min_freq", min_freq)
        self.context, self.min_freq, self.begin, self.mask = context, min_freq, begin, mask
        self.tokenizer, self.lengths, self.shuffled = tokenizer, lengths, shuffled
        self.vocabulary: dict[str, Any] | None = None
        self.words: Vocabulary | None = None
        self.lines: dict[str, list[str]] = {}

    def texts(self) -> dict[str, list[tuple[str, int]]]:
        """Each split's sentences with their classes."""
        raise NotImplementedError

    def read(self) -> dict[str, Split]:
        texts = self.texts()
        everything = sorted(f"{label} {line}" for items in texts.values() for line, label in items)  # in any fold
        self.fingerprint = hashlib.sha256("\n".join(everything).encode()).hexdigest()[:16]
        self.lines = {name: [line for line, _ in items] for name, items in texts.items()}
        if self.shuffled:
            self.lines = {name: mixed(lines) for name, lines in self.lines.items()}
        self.settle()
        labels = {name: torch.tensor([label for _, label in items]) for name, items in texts.items()}
        return {name: (self.given(lines), labels[name]) for name, lines in self.lines.items()}

    def settle(self) -> None:
        """The vocabulary: that of the checkpoint where there is one, else the tokenizer's, else the training folds'."""
        fit: Callable[[], Vocabulary] = partial(Words.fitted, self.lines.get("train", ()), self.min_freq, self.mask)
        if self.tokenizer:
            fit = partial(read_tokenizer, self.tokenizer, self.mask, sentences=True)
        self.words, self.vocabulary = settled(self.vocabulary, fit)
        if self.tokenizer:
            must_belong(self.tokenizer, self.words)

    def frame(self) -> tuple[list[int], list[int]]:
        """What stands before a sentence and behind it. UserError where the vocabulary has not what is needed."""
        words = self.words
        assert words is not None
        whose = f"data.tokenizer={self.tokenizer}: it" if self.tokenizer else "the vocabulary of these weights"
        if words.pad is None:
            others = "name another" if self.tokenizer else "take weights of bpe or words, or train anew"
            raise UserError(f"{whose} has no padding; {others}")
        if self.begin and words.bos is None:
            raise UserError(f"{whose} has no sign for the beginning of a text; set data.begin=false")
        before, behind = words.bos if self.begin else None, words.eos if words.ends else None
        return [] if before is None else [before], [] if behind is None else [behind]

    def given(self, lines: list[str]) -> Inputs:
        ids, lengths = self.ids(lines)
        return Columns([ids, lengths]) if self.lengths else ids

    def ids(self, lines: list[str]) -> tuple[Tensor, Tensor]:
        """(N, T) int64, and how many tokens each sentence has, (N,)."""
        before, behind = self.frame()
        assert self.words is not None
        most = max(0, self.context - len(before) - len(behind))
        rows = [[*before, *self.words.encode(line)[:most], *behind][: self.context] for line in lines]
        return padded(rows, self.words.pad or PAD).long(), torch.tensor([len(row) for row in rows])

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        known = {"context": self.context, "num_classes": len(self.classes)}
        if self.words is None:
            mask = self.usual() - 1 if self.mask else None
            return {**known, "vocab_size": self.usual(), "pad_id": PAD, **masked(self.dims, mask)}
        return {**known, "vocab_size": len(self.words), "pad_id": self.words.pad, **special(self.dims, self.words)}

    def usual(self) -> int:
        return stated(self.dims, self.usual_size + len(SPECIALS) + self.mask)

    def pretended(self, items: int, generator: Generator) -> Any:
        if self.vocabulary or self.tokenizer:
            self.settle()
            self.frame()
        size = self.usual() if self.words is None else len(self.words)
        ids = torch.randint(min(len(SPECIALS), size - 1), size, (items, self.context), generator=generator)
        return Columns([ids, torch.full((items,), self.context)]) if self.lengths else ids


def mixed(lines: Sequence[str]) -> list[str]:
    """By NumPy's legacy generator, whose stream is frozen (NEP 19)."""
    random = np.random.RandomState(0)
    return [" ".join(random.permutation(line.split())) if line.split() else line for line in lines]
