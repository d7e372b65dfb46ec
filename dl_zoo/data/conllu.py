"""Parts of speech in treebanks of Universal Dependencies, the files of which are CoNLL-U.

Nivre, de Marneffe, Ginter, Hajic, Manning, Pyysalo, Schuster, Tyers, Zeman, "Universal Dependencies v2: An Evergrowing
Multilingual Treebank Collection", 2020, LREC, arXiv:2004.10643; the format: universaldependencies.org/format.html. A
line has ten columns between tabs, of which three are read: the id, the word, and its universal tag (UPOS, one of 17) or
the treebank's own (XPOS). Lines that start with # are comments, an empty line ends a sentence. What was written in one
("don't", id 3-4) is followed by its words, which are tagged; a word that is not there (8.1) has a place in the syntax
alone. Both are passed over. A word whose tag is _ is read, and not counted.

The known treebank is English ParTUT (Sanguinetti, Bosco 2014): talks, law, Wikipedia; 1,781 sentences for training, 156
for validation, 153 for the test, of 43,504, 2,722 and 3,408 words. CC BY-NC-SA 4.0. Releases differ in a few words;
which files are meant, their SHA-256 says, and a download of others is refused.

On disk: `<data_dir>/ud_partut/en_partut-ud-train.conllu`, `-dev`, `-test`, downloaded when absent.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from dl_zoo.data.download import Files, sha256
from dl_zoo.data.memory import seeded
from dl_zoo.data.retrieval import retrieved
from dl_zoo.data.tagged import Sentence, TaggedData
from dl_zoo.data.text_file import decoded
from dl_zoo.errors import UserError

log = logging.getLogger("dl_zoo")
ENDS = {"train": "-train.conllu", "val": "-dev.conllu", "test": "-test.conllu"}
COLUMNS = 10
COLUMN = {"upos": 3, "xpos": 4}
ID = re.compile(r"(\d+)(-\d+|\.\d+)?")
USUAL = {"words": 3_700, "characters": 90, "num_classes": 17, "length": 24}  # where they cannot be counted yet


class Conllu(TaggedData):
    """Batches ((words (B, T), characters (B, T, W), lengths (B,)), targets (B, T)); see `tagged.TaggedLoader`.

    Args:
        path: a folder with a treebank of your own, one file each that ends in -train.conllu, -dev.conllu, -test.conllu;
            None: English ParTUT.
        tags: upos or xpos.
        min_freq, lowercase, word_length: see TaggedData.
    """

    addresses: ClassVar[list[str]] = [
        f"https://raw.githubusercontent.com/UniversalDependencies/UD_English-ParTUT/r{release}/"
        for release in ("2.7", "2.10")
    ]
    digests: ClassVar[dict[str, str]] = {  # SHA-256; in the order of the splits
        "en_partut-ud-train.conllu": "d7f3fa31fd8a6536e5c1ddcf37911621e77b6d37e20e73dbad1f8fc65e56ef84",
        "en_partut-ud-dev.conllu": "f52fe2eeedcbb916516a7cabaeda89a618e3832ade19750e30b4f514865cdb86",
        "en_partut-ud-test.conllu": "fdc9c5a5fd95f9b426b98cbe43fecad011cd4c33f9bf211d4673d060ee9d0e96",
    }

    def __init__(self, dims: Mapping[str, Any], *, path: str | None = None, tags: str = "upos", **settings: Any):
        super().__init__(dims, **settings)
        if tags not in COLUMN:
            raise UserError(f"data.tags={tags}: must be upos or xpos")
        self.path = None if path is None else Path(path).expanduser().absolute()
        self.tags = tags
        if path is None:
            self.sizes = {"train": 1_781, "val": 156, "test": 153}

    # ---- files -----------------------------------------------------------------------------------------------------

    @property
    def files(self) -> Files:
        return Files("conllu", Path(self.data_dir), "ud_partut", self.digests, sha256, "toy_tags")

    def absent(self) -> list[str]:
        return [] if self.path else self.files.missing()

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        if self.path is None:
            self.files.fetch(self.addresses, lambda folder, scratch: retrieved(folder, self.digests, scratch))

    def file(self, split: str) -> Path:
        """UserError where a folder of one's own has none for it, or several."""
        if self.path is None:
            return self.files.checked(next(name for name in self.digests if name.endswith(ENDS[split])))
        if not self.path.is_dir():
            raise UserError(f"data.path={self.path}: there is no such folder")
        found = sorted(each for each in self.path.iterdir() if each.name.endswith(ENDS[split]))
        if len(found) != 1:
            has = "none" if not found else f"{len(found)}, {found[0].name} and {found[1].name} among them"
            raise UserError(f"data.path={self.path}: one file must end in {ENDS[split]}, and it has {has}")
        return found[0]

    # ---- sentences -------------------------------------------------------------------------------------------------

    def sentences(self, split: str) -> Sequence[Sentence]:
        self.prepare_data()  # for who calls setup alone; nothing to do under a Trainer, which has called it
        path = self.file(split)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from error
        found = list(parsed(decoded(content, str(path)), COLUMN[self.tags], str(path)))
        if not found:
            raise UserError(f"{path}: has no sentence; a word a line, {COLUMNS} columns between tabs")
        words = sum(len(words) for words, _ in found)
        if not (known := sum(map(bool, (tag for _, tags in found for tag in tags)))):
            raise UserError(f"{path}: its words have no {self.tags.upper()}; data.tags={another(self.tags)}")
        if known < words:
            log.info("%s: %d of %d words have no %s and are not counted", path.name, words - known, words, self.tags)
        return found

    def pretended(self, items: int) -> Sequence[Sentence]:
        """Of made-up words, as many in a sentence as ParTUT has on average."""
        lexicon = self.known()
        words = lexicon.words if lexicon else [f"{number:04}" for number in range(USUAL["words"])]
        tags = lexicon.tags if lexicon else [f"T{number}" for number in range(USUAL["num_classes"])]
        draw = partial(torch.randint, generator=seeded(self.seed))
        shape = (items, USUAL["length"])
        drawn = zip(draw(len(words), shape).tolist(), draw(len(tags), shape).tolist(), strict=True)
        return [([words[each] for each in some], [tags[each] for each in others]) for some, others in drawn]


def another(tags: str) -> str:
    return next(each for each in COLUMN if each != tags)


def parsed(text: str, column: int, name: str) -> Iterator[Sentence]:
    r"""The sentences of a CoNLL-U file; `column`, from 0, has the tags.

    >>> rest = 6 * "\t_"
    >>> lines = ["# a comment", "1-2\tIt's\t_\t_" + rest, "1\tIt\tit\tPRON" + rest, "2\t's\tbe\tAUX" + rest, ""]
    >>> list(parsed("\n".join(lines), 3, "file"))
    [(['It', "'s"], ['PRON', 'AUX'])]

    Raises:
        UserError: with file and line: other than ten columns, an id that is none or not the next, an empty word or tag.
    """
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*text.replace("\r\n", "\n").split("\n"), ""], 1):
        if not line.strip():
            if words:
                yield words, tags
            words, tags = [], []
        elif not line.startswith("#"):
            fields = line.split("\t")
            if wrong := mistake(fields, len(words), column):
                raise UserError(f"{name}, line {number:,}: {wrong}")
            if fields[0].isdigit():
                words.append(fields[1])
                tags.append("" if fields[column] == "_" else fields[column])


def mistake(fields: Sequence[str], before: int, column: int) -> str:
    """What is wrong with a line behind `before` words of its sentence; "" if nothing."""
    if len(fields) != COLUMNS:
        return f"{len(fields)} column{'s' * (len(fields) != 1)} between tabs, where CoNLL-U has {COLUMNS}"
    found = ID.fullmatch(fields[0])
    if not found:
        return f"{fields[0]!r} is no id; ids are such as 3, 3-4 or 3.1"
    if not found[2] and int(found[1]) != before + 1:
        return f"id {fields[0]}, where {before + 1} is the next of this sentence"
    if not found[2] and not (fields[1].strip() and fields[column].strip()):
        return "a word, or its tag, is empty; an unknown one is _"
    return ""
