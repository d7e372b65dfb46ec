"""Sentences with a tag for each word: what a tagger must know of a language, and batches for it.

A word is known twice: as a whole, if it was frequent enough in the training sentences, and by its spelling, which tells
something of a word never seen. `Lexicon` has the ids of both, fitted on the training sentences and carried in the
checkpoint; the tags are those of all splits, since a tag that training never shows is an error and no gap.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dl_zoo.data.columns import Side
from dl_zoo.data.memory import at_least_one, seeded
from dl_zoo.data.text import IGNORED, Batches, TextData, agreed
from dl_zoo.errors import UserError

SPLITS = ("train", "val", "test")
PAD, UNK = 0, 1  # of words and of characters
SPECIALS = ("<pad>", "<unk>")
Sentence = tuple[Sequence[str], Sequence[str]]  # words, and a tag for each; "" where none is known


@dataclass(frozen=True)
class Lexicon:
    """Words and characters, the two special ids before them, and tags, each in the order of their ids.

    With `lowercase` a word is looked up in lower case; its characters are as they stand. Of a word longer than
    `word_length` the middle is left out, since endings and beginnings tell most.

    >>> lexicon = Lexicon.fitted([["The", "cat"], ["the", "hat"]], ["DET", "NOUN"], min_freq=2, word_length=4)
    >>> lexicon.word_ids(["THE", "dog"]), lexicon.spelling("th!"), lexicon.spelling("catchthat")
    ([2, 1], [7, 6, 1, 0], [4, 3, 3, 7])
    """

    words: tuple[str, ...]
    characters: str
    tags: tuple[str, ...]
    word_length: int
    lowercase: bool

    @classmethod
    def fitted(
        cls,
        sentences: Iterable[Sequence[str]],
        tags: Iterable[str],
        *,
        min_freq: int = 1,
        word_length: int = 20,
        lowercase: bool = True,
    ) -> "Lexicon":
        """The words that occur `min_freq` times or more, the most frequent first, equals in the alphabet's order."""
        counts = Counter(word for words in sentences for word in words)
        characters = "".join(sorted({character for word in counts for character in word}))
        forms: Counter[str] = Counter()
        for word, count in counts.items():
            forms[word.lower() if lowercase else word] += count
        known = sorted((form for form, count in forms.items() if count >= min_freq), key=lambda f: (-forms[f], f))
        return cls(tuple(known), characters, tuple(sorted(set(tags))), word_length, lowercase)

    @cached_property
    def _ids(self) -> tuple[dict[str, int], dict[str, int]]:
        first = len(SPECIALS)
        return {w: i for i, w in enumerate(self.words, first)}, {c: i for i, c in enumerate(self.characters, first)}

    def form(self, word: str) -> str:
        return word.lower() if self.lowercase else word

    def word_ids(self, words: Iterable[str]) -> list[int]:
        return [self._ids[0].get(self.form(word), UNK) for word in words]

    def spelling(self, word: str) -> list[int]:
        """The ids of its characters, `word_length` of them with <pad> behind."""
        half = self.word_length // 2
        shown = word if len(word) <= self.word_length else word[:half] + word[half - self.word_length :]
        return [self._ids[1].get(each, UNK) for each in shown] + [PAD] * (self.word_length - len(shown))

    def facts(self) -> dict[str, Any]:
        first = len(SPECIALS)
        sizes = {"words": first + len(self.words), "characters": first + len(self.characters)}
        return {**sizes, "word_length": self.word_length, "num_classes": len(self.tags), "pad_id": PAD}

    def plain(self) -> dict[str, Any]:
        return {
            "kind": "tags",
            "words": list(self.words),
            "characters": self.characters,
            "tags": list(self.tags),
            "word_length": self.word_length,
            "lowercase": self.lowercase,
        }

    @classmethod
    def restored(cls, plain: Mapping[str, Any]) -> "Lexicon":
        """That whose `plain()` this is. UserError where it is nobody's."""
        settings = dict(plain)
        if settings.pop("kind", None) != "tags":
            raise UserError("the vocabulary of these weights is none of words with tags; train anew, without them")
        try:
            words, tags = tuple(map(str, settings.pop("words"))), tuple(map(str, settings.pop("tags")))
            length = int(settings.pop("word_length"))
            return cls(words, str(settings.pop("characters")), tags, length, bool(settings.pop("lowercase")))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the vocabulary cannot be read: {error!r}") from error


@dataclass(frozen=True)
class Rows:
    """All words of a split, one behind the other, and how many belong to each sentence."""

    words: Tensor  # (M,) int32
    spellings: Tensor  # (M, W) int32
    targets: Tensor  # (M,) int64
    lengths: Tensor  # (N,) int64, on the CPU

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> Tensor:
        return self.lengths.cumsum(0) - self.lengths

    def to(self, device: torch.device) -> "Rows":
        return Rows(self.words.to(device), self.spellings.to(device), self.targets.to(device), self.lengths)

    def taken(self, index: Tensor) -> tuple[Side, Tensor]:
        """Some sentences, padded to the longest of them."""
        lengths = self.lengths[index]
        place = torch.arange(int(lengths.max()))
        at = (self.starts[index, None] + place).clamp(max=len(self.words) - 1).to(self.words.device)  # (B, T)
        outside = (place >= lengths[:, None]).to(at.device)
        words = self.words[at].long().masked_fill(outside, PAD)
        spellings = self.spellings[at].long().masked_fill(outside[:, :, None], PAD)
        return Side((words, spellings, lengths)), self.targets[at].masked_fill(outside, IGNORED)


def rows(sentences: Sequence[Sentence], lexicon: Lexicon) -> Rows:
    """UserError for a tag that the lexicon lacks."""
    number = {tag: index for index, tag in enumerate(lexicon.tags)} | {"": IGNORED}
    every = [tag for _, tags in sentences for tag in tags]
    if strange := sorted(set(every) - number.keys()):
        raise UserError(f"tag {strange[0]!r} is none of the {len(lexicon.tags)} that these weights know; train anew")
    words = [word for words, _ in sentences for word in words]
    spelled = {word: lexicon.spelling(word) for word in set(words)}
    return Rows(
        torch.tensor(lexicon.word_ids(words), dtype=torch.int32),
        torch.tensor([spelled[word] for word in words], dtype=torch.int32).view(-1, lexicon.word_length),
        torch.tensor([number[tag] for tag in every], dtype=torch.int64),
        torch.tensor([len(words) for words, _ in sentences]),
    )


class TaggedLoader(Batches):
    """Batches ((words (B, T), characters (B, T, W), lengths (B,) on the CPU), targets (B, T)), all int64.

    Both are 0 behind a sentence's end, and targets -100. T is the length of the batch's longest.

    Shuffled, for training: sentences of similar length together, equals in random order, the batches in random order;
    of the few that do not divide among the ranks others are left out each time. In order, for evaluation: as they are.
    """

    def __init__(
        self, sentences: Rows, *, batch_size: int, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1
    ):
        super().__init__(shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        if batch_size < world_size:
            raise UserError(f"data.batch_size={batch_size}: fewer than one item for each of {world_size} processes")
        self.sentences, self.batch_size, count = sentences, batch_size, len(sentences)
        self.items = count - (count % batch_size % world_size if shuffle else 0)
        full, tail = divmod(self.items, batch_size)
        self.length = full + (tail > rank)

    def plan(self, epoch: int) -> tuple[Tensor, list[int]]:
        """The sentences in the order of the batches, and the batches in theirs."""
        if not self.shuffle:
            return torch.arange(self.items), list(range(len(self)))
        generator = seeded(self.seed, epoch)
        order = torch.randperm(len(self.sentences), generator=generator)[: self.items]
        order = order[self.sentences.lengths[order].argsort(stable=True)]
        return order, torch.randperm(len(self), generator=generator).tolist()

    def taken(self, plan: tuple[Tensor, list[int]], batch: int) -> tuple[Side, Tensor]:
        order, turns = plan
        first = turns[batch] * self.batch_size
        return self.sentences.taken(order[first + self.rank : first + self.batch_size : self.world_size])


class TaggedData(TextData):
    """Splits of sentences. A subclass says what they are (`sentences`).

    Args:
        min_freq: how often a word must occur in training, or else it is <unk>, in training too.
        lowercase: whether words are looked up in lower case.
        word_length: characters of a word at most; it becomes dims.word_length.

    After `setup`: `lexicon`, which `vocabulary` is the plain form of, and `classes`, the tags.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        min_freq: int = 1,
        lowercase: bool = True,
        word_length: int = 20,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("min_freq", min_freq)
        at_least_one("word_length", word_length)
        self.min_freq, self.lowercase, self.word_length = min_freq, lowercase, word_length
        self.lexicon: Lexicon | None = None
        self.said: dict[str, Sequence[Sentence]] = {}

    def sentences(self, split: str) -> Sequence[Sentence]:
        """Each of a word or more."""
        raise NotImplementedError

    def read(self) -> dict[str, Rows]:
        self.said = {split: self.sentences(split) for split in SPLITS}
        tags = {tag for split in SPLITS for _, tags in self.said[split] for tag in tags if tag}
        return self.encoded([words for words, _ in self.said["train"]], tags)

    def encoded(self, words: Iterable[Sequence[str]], tags: Iterable[str]) -> dict[str, Rows]:
        lexicon = self.known() or Lexicon.fitted(
            words, tags, min_freq=self.min_freq, word_length=self.word_length, lowercase=self.lowercase
        )
        self.lexicon, self.vocabulary, self.classes = lexicon, lexicon.plain(), list(lexicon.tags)
        return {split: rows(said, lexicon) for split, said in self.said.items()}

    def known(self) -> Lexicon | None:
        """That of the checkpoint, where there is one."""
        return Lexicon.restored(self.vocabulary) if self.vocabulary else None

    def facts(self) -> dict[str, Any]:
        assert self.lexicon is not None
        return self.lexicon.facts()

    def pretend(self, items: int) -> None:
        """For a pre-flight check: `items` random sentences, and as many words and tags as are usual."""
        said = self.pretended(items)
        self.said = dict.fromkeys(SPLITS, said)
        splits = self.encoded([words for words, _ in said], {tag for _, tags in said for tag in tags})
        self.dims, self.splits = agreed(self.dims, self.facts()), splits

    def pretended(self, items: int) -> Sequence[Sentence]:
        raise NotImplementedError

    def batches(self, split: str, shuffle: bool, rank: int, world_size: int) -> TaggedLoader:
        settings: dict[str, Any] = {"batch_size": self.batch_size, "shuffle": shuffle, "seed": self.seed}
        return TaggedLoader(self.splits[split], **settings, rank=rank, world_size=world_size)
