"""Movie reviews: 10,662 sentences of film critics, half of them favourable; is a sentence one of those?

Pang, Lee, "Seeing stars: Exploiting class relationships for sentiment categorization with respect to rating scales",
2005, ACL, arXiv:cs/0506075: their sentence polarity dataset v1.0, from snippets of rottentomatoes.com. No licence is
stated; it is for research.

There is no official split: papers report the mean over ten folds (Kim 2014, arXiv:1408.5882, table 2). Sentence i of
each class is in fold i mod 10. `fold` is the test set, the next one validation, the other eight are for training; so
ten runs with `data.fold=0,1,2,3,4,5,6,7,8,9` are the cross validation.

The text is lower case already, with blanks between words and marks; `Words` splits it there, fitted on the training
folds. Where weights bring a vocabulary of their own along, it is used instead. For those of Hugging Face's BERT, whose
vocabulary lies beside them and not in them, `tokenizer` names its tokenizer.json: a sentence is then [CLS] ... [SEP].

On disk: `<data_dir>/rt-polaritydata/rt-polarity.pos` and `.neg`, or `<data_dir>/mr_polarity/`, Latin-1, downloaded when
absent, compared with their SHA-256 whenever they are read.
"""

import hashlib
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from dl_zoo.data.download import Files, sha256
from dl_zoo.data.memory import MemoryData, Split, at_least_one
from dl_zoo.data.pairs import padded
from dl_zoo.data.retrieval import retrieve
from dl_zoo.data.sources import Inputs
from dl_zoo.data.text import masked, settled, special
from dl_zoo.data.text_file import must_belong, read_tokenizer, stated
from dl_zoo.data.vocabulary import PAD, SPECIALS, Vocabulary, Words
from dl_zoo.errors import UserError

FOLDS = 10
FOLDERS = ("rt-polaritydata", "mr_polarity")  # the archive's own name first
USUAL = 18_000  # words of eight folds, where they cannot be counted yet


class MovieReviews(MemoryData):
    """Inputs (B, T) int64, padded with <pad> to the longest sentence of all or cut to `context`; targets (B,).

    For masked language models the same batches will do: `mask` adds <mask>, and their targets are not looked at.

    Args:
        fold: of 0..9, the test set.
        context: tokens of a sentence at most, <bos> included; it becomes dims.context.
        min_freq: how often a word must occur in the training folds, or else it is <unk>.
        begin: <bos> before each sentence: the place where BERT's classifier looks.
        tokenizer: a file of the `tokenizers` library (tokenizer.json) to use instead of fitting.
        mask: one id more, the last; that of the tokenizer where it has one.

    After `setup` there are also `origin` and `fingerprint`, which tell one text from another.
    """

    takes_vocabulary = True
    classes = ["negative", "positive"]  # noqa: RUF012
    origin = "movie_reviews"
    archives: ClassVar[list[str]] = [
        "https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz",
    ]
    digests: ClassVar[dict[str, str]] = {  # SHA-256; in the order of the classes
        "rt-polarity.neg": "4ace77d558c3714723843f1d65b60c01e3417b208180f0728808d76ad0eeeaca",
        "rt-polarity.pos": "2da124ec187a9d5a29c9f04e91c540e02baed5af8868f550a26bd6fd4dbf8bf0",
    }

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        fold: int = 0,
        context: int = 64,
        min_freq: int = 1,
        begin: bool = True,
        tokenizer: str | None = None,
        mask: bool = False,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("context", context)
        at_least_one("min_freq", min_freq)
        if fold not in range(FOLDS):
            raise UserError(f"data.fold={fold}: must be from 0 to {FOLDS - 1}")
        self.fold, self.context, self.min_freq, self.begin, self.mask = fold, context, min_freq, begin, mask
        self.tokenizer = tokenizer
        self.vocabulary: dict[str, Any] | None = None
        self.words: Vocabulary | None = None
        self.lines: dict[str, list[str]] = {}

    # ---- files -----------------------------------------------------------------------------------------------------

    @property
    def files(self) -> Files:
        root = Path(self.data_dir)
        whole = [name for name in FOLDERS if all((root / name / file).is_file() for file in self.digests)]
        return Files("movie_reviews", root, (whole or FOLDERS)[0], self.digests, sha256, "digits")

    def absent(self) -> list[str]:
        return self.files.missing()

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        self.files.fetch(self.archives, self._load)

    def _load(self, address: str, scratch: Path) -> Path:
        scratch.mkdir(parents=True)
        retrieve(address, scratch / "archive.tar.gz")
        with tarfile.open(scratch / "archive.tar.gz") as archive:
            for file in self.digests:  # these alone, whatever else is in it
                content = archive.extractfile(f"{FOLDERS[0]}/{file}")
                assert content is not None
                (scratch / file).write_bytes(content.read())
        return scratch

    # ---- ids -------------------------------------------------------------------------------------------------------

    def read(self) -> dict[str, Split]:
        self.prepare_data()  # for who calls setup alone; nothing to do under a Trainer, which has called it
        folds: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
        for label, file in enumerate(self.digests):
            content = self.files.checked(file).read_text(encoding="latin-1")
            for place, line in enumerate(content.removesuffix("\n").split("\n")):
                folds[part_of(place % FOLDS, self.fold)].append((line.strip(), label))
        self.fingerprint = hashlib.sha256("".join(self.digests.values()).encode()).hexdigest()[:16]
        self.lines = {name: [line for line, _ in items] for name, items in folds.items()}
        self.settle()
        labels = {name: torch.tensor([label for _, label in items]) for name, items in folds.items()}
        return {name: (self.ids(lines), labels[name]) for name, lines in self.lines.items()}

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

    def ids(self, lines: list[str]) -> Tensor:
        """(N, T) int64."""
        before, behind = self.frame()
        assert self.words is not None
        most = max(0, self.context - len(before) - len(behind))
        rows = [[*before, *self.words.encode(line)[:most], *behind][: self.context] for line in lines]
        return padded(rows, self.words.pad or PAD).long()

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        known = {"context": self.context, "num_classes": len(self.classes)}
        if self.words is None:
            mask = self.usual() - 1 if self.mask else None
            return {**known, "vocab_size": self.usual(), "pad_id": PAD, **masked(self.dims, mask)}
        return {**known, "vocab_size": len(self.words), "pad_id": self.words.pad, **special(self.dims, self.words)}

    def usual(self) -> int:
        return stated(self.dims, USUAL + len(SPECIALS) + self.mask)

    def pretended(self, items: int, generator: Generator) -> Tensor:
        if self.vocabulary or self.tokenizer:
            self.settle()
            self.frame()
        size = self.usual() if self.words is None else len(self.words)
        return torch.randint(min(len(SPECIALS), size - 1), size, (items, self.context), generator=generator)


def part_of(fold: int, test: int) -> str:
    """
    >>> [part_of(fold, 9) for fold in (9, 0, 1)]
    ['test', 'val', 'train']
    """
    return {test: "test", (test + 1) % FOLDS: "val"}.get(fold, "train")
