"""Sentences of a toy English, with parts of speech: what a word is may be told by the word before it, or behind it.

A small grammar draws them. Nine words have two tags each, in three groups:

    light cold square   ADJ before a noun, else NOUN          "the light box", "the light fades"
    this that           DET before a noun, else PRON          "this box", "this fades"
    walk watch plan     NOUN behind a or every, else VERB     "a walk", "they walk"

So the word to the left is not enough, nor is the word to the right; both, with the word itself, always are. Whoever
reads from the left alone can at best guess where one of the first five stands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dl_zoo.data.memory import at_least_one
from dl_zoo.data.tagged import SPLITS, Sentence, TaggedData

WORDS = {
    "DET": "the a every",
    "ADJ": "red old quiet",
    "NOUN": "box dog river letter garden teacher",
    "VERB": "fades waits sleeps arrives",
    "SEES": "sees follows paints",  # verbs that something follows
    "ADP": "near under behind",
    "ADV": "often never soon",
    "PRON": "she he they",
    "PUNCT": ". !",
}
RIGHT = ("light", "cold", "square")
POINTING = ("this", "that")
LEFT = ("walk", "watch", "plan")
Tagged = list[tuple[str, str]]


class ToyTags(TaggedData):
    """Batches ((words (B, T), characters (B, T, W), lengths (B,)), targets (B, T)); see `tagged.TaggedLoader`.

    Each split is a draw of its own, the same whatever the seed of a run, by NumPy's legacy generator, whose stream is
    frozen (NEP 19).

    Args:
        train_items: sentences for training.
        eval_items: of the validation set, and of the test set.
        min_freq, lowercase, word_length: see TaggedData.
    """

    def __init__(self, dims: Mapping[str, Any], *, train_items: int = 2_000, eval_items: int = 500, **settings: Any):
        super().__init__(dims, **settings)
        at_least_one("train_items", train_items)
        at_least_one("eval_items", eval_items)
        self.sizes = {"train": train_items, "val": eval_items, "test": eval_items}

    def sentences(self, split: str) -> Sequence[Sentence]:
        return drawn(SPLITS.index(split), self.sizes[split])

    def pretended(self, items: int) -> Sequence[Sentence]:
        return drawn(len(SPLITS), max(items, 100))[:items] if self.vocabulary else drawn(len(SPLITS), 500)


def drawn(draw: int, count: int) -> list[Sentence]:
    grammar = Grammar(np.random.RandomState(draw))
    sentences = [grammar.sentence() for _ in range(count)]
    return [([word for word, _ in each], [tag for _, tag in each]) for each in sentences]


class Grammar:
    """sentence: subject, verb or verb with object, places, mark."""

    def __init__(self, random: np.random.RandomState):
        self.random = random

    def one(self, words: Sequence[str]) -> str:
        return words[self.random.randint(len(words))]

    def chance(self, p: float) -> bool:
        return bool(self.random.rand() < p)

    def word(self, kind: str) -> tuple[str, str]:
        return self.one(WORDS[kind].split()), "VERB" if kind == "SEES" else kind

    def sentence(self) -> Tagged:
        said = self.subject()
        said += [self.word("ADV")] if self.chance(0.3) else []
        said += [self.word("SEES"), *self.thing()] if self.chance(0.5) else [self.verb(said[-1])]
        while self.chance(0.35):
            said += [self.word("ADP"), *self.thing()]
        return [*said, self.word("PUNCT")]

    def subject(self) -> Tagged:
        return [self.word("PRON")] if self.chance(0.3) else self.thing()

    def verb(self, before: tuple[str, str]) -> tuple[str, str]:
        """One of two kinds only where it cannot be the noun of what stands before."""
        doubtful = before[1] in ("PRON", "ADV") and before[0] not in POINTING
        return (self.one(LEFT), "VERB") if doubtful and self.chance(0.5) else self.word("VERB")

    def thing(self) -> Tagged:
        which = self.random.rand()
        if which < 0.15:
            return [(self.one(POINTING), "PRON")]
        if which < 0.3:
            return [(self.one(WORDS["DET"].split()[1:]), "DET"), (self.one(LEFT), "NOUN")]
        first = (self.one(POINTING), "DET") if self.chance(0.3) else self.word("DET")
        if first[0] not in POINTING and self.chance(0.5):
            light = self.one(RIGHT)
            return [first, (light, "ADJ"), self.word("NOUN")] if self.chance(0.5) else [first, (light, "NOUN")]
        return [
            first,
            *([self.word("ADJ")] if first[0] not in POINTING and self.chance(0.3) else []),
            self.word("NOUN"),
        ]
