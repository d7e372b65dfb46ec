"""Multi30k: 31,014 descriptions of photographs, English and German, on which small translators are compared.

Elliott, Frank, Sima'an, Specia, "Multi30K: Multilingual English-German Image Descriptions", 2016, arXiv:1605.00459,
task 1: each English sentence translated by a professional. 29,000 pairs for training, 1,014 for validation, and the
1,000 of test_2016_flickr as test set. The captions are Flickr30k's, for research and education only.

One vocabulary for both languages, byte pairs fitted on the training sentences of both. `lowercase` is on, as in most
published numbers; references are then in lower case too, as a net cannot say otherwise. Where the vocabulary comes of
weights or of `tokenizer`, its own case decides, whatever `lowercase` says.

On disk: `<data_dir>/multi30k/train.de`, `val.en`, `test_2016_flickr.de`, ..., each also as `.gz`; downloaded when
absent, the text compared with its SHA-256 whenever it is read. `path` names a folder of your own instead: `train`,
`val`, `test` with the two languages as suffixes, a sentence a line.

Lines that are empty on either side are left out of training; in evaluation they are kept, as empty sentences. A pair
longer than `context` is left out of training too; in evaluation it is cut. How many there are is said once.
"""

import gzip
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from dl_zoo.data.download import Files, sha256
from dl_zoo.data.memory import at_least_one
from dl_zoo.data.pairs import PairData, Pairs, paired
from dl_zoo.data.retrieval import retrieved
from dl_zoo.data.text import agreed
from dl_zoo.data.text_file import decoded, must_belong, read_tokenizer, stated
from dl_zoo.data.vocabulary import BOS, BPE, EOS, PAD, SPECIALS, UNK, Words
from dl_zoo.errors import UserError

log = logging.getLogger("dl_zoo")
SPLITS = ("train", "val", "test")
NAMES = {"train": "train", "val": "val", "test": "test_2016_flickr"}
Lines = dict[str, tuple[list[str], list[str]]]  # by split: the sources and the targets


class Multi30k(PairData):
    """Batches ((source (B, S), target_in (B, T), lengths (B,)), targets (B, T)); see `pairs.PairLoader`.

    Args:
        source, target: languages, which are the files' suffixes.
        path: a folder of your own pairs; None: the official ones.
        merges: of the vocabulary, besides 256 bytes and four special symbols.
        tokenizer: a tokenizer.json to use instead of fitting; its ids 0..3 must be <pad>, <bos>, <eos>, <unk>.
        context: the longest sentence in tokens, with <bos> or <eos>; it becomes dims.context.
        batch_tokens, batch_size: see PairData.
        train_items: pairs that are trained on, the first; the vocabulary, too, is fitted on them. None: all.

    After `setup`, `sources(split)` and `references(split)` are the sentences in the order of `loader(split)`, and
    `origin` and `fingerprint` tell one text from another.
    """

    origin = "multi30k"
    sizes = {"train": 29_000, "val": 1_014, "test": 1_000}  # noqa: RUF012
    mirrors: ClassVar[list[str]] = ["https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"]
    digests: ClassVar[dict[str, str]] = {  # SHA-256 of the extracted text
        "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
        "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
        "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
        "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
        "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
        "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    }

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        source: str = "de",
        target: str = "en",
        path: str | None = None,
        merges: int = 8000,
        lowercase: bool = True,
        tokenizer: str | None = None,
        context: int = 128,
        batch_tokens: int = 2048,
        train_items: int | None = None,
        **settings: Any,
    ):
        super().__init__(dims, batch_tokens=batch_tokens, **settings)
        for key, value in {"merges": merges, "context": context, "train_items": train_items}.items():
            if value is not None:
                at_least_one(key, value)
        if source == target:
            raise UserError(f"data.source={source} and data.target={target}: must be two languages")
        if path is None and {source, target} != {"de", "en"}:
            raise UserError(f"data.source={source}, data.target={target}: the official pairs are de and en")
        self.source, self.target, self.tokenizer = source, target, tokenizer
        self.path = None if path is None else Path(path).expanduser().absolute()
        self.merges, self.lowercase, self.context, self.train_items = merges, lowercase, context, train_items
        self.lines: Lines = {}

    # ---- files -----------------------------------------------------------------------------------------------------

    @property
    def files(self) -> Files:
        return Files("multi30k", Path(self.data_dir), "multi30k", self.digests, sha256, "reverse_pairs")

    def absent(self) -> list[str]:
        if self.path is not None:
            return []
        return [file for file in self.files.missing() if not (self.files.place / f"{file}.gz").is_file()]

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        if self.absent():
            self.files.fetch(self.mirrors, lambda mirror, scratch: retrieved(mirror, self.digests, scratch, ".gz"))

    def sentences(self, split: str, language: str) -> list[str]:
        """One a line, without white space at its ends."""
        own = self.path is not None
        name = f"{split if own else NAMES[split]}.{language}"
        path, content = content_of(self.path or self.files.place, name)
        if not own and hashlib.sha256(content).hexdigest() != self.digests[name]:
            raise UserError(f"{path} is damaged (its SHA-256 is another): delete it to download it again")
        return [line.strip() for line in decoded(content, str(path)).removesuffix("\n").split("\n")]

    def pairs(self, split: str) -> tuple[list[str], list[str]]:
        one, other = self.sentences(split, self.source), self.sentences(split, self.target)
        if len(one) != len(other):
            counts = f"{len(one):,} lines in {self.source} and {len(other):,} in {self.target}"
            raise UserError(
                f"{split} split: {counts}; a line of one must be the translation of the same line of the other"
            )
        if split != "train":
            return one, other
        kept = [pair for pair in zip(one, other, strict=True) if all(pair)]
        if empty := len(one) - len(kept):
            log.info("train split: %d of %d pairs are left out, since a sentence of them is empty", empty, len(one))
        if not kept:
            raise UserError("train split: every pair has an empty sentence")
        kept = kept[: self.train_items]
        return [pair[0] for pair in kept], [pair[1] for pair in kept]

    # ---- ids -------------------------------------------------------------------------------------------------------

    def read(self) -> dict[str, Pairs]:
        self.prepare_data()  # for who calls setup alone; nothing to do under a Trainer, which has called it
        self.lines = {split: self.pairs(split) for split in SPLITS}
        text = "".join(f"{line}\n" for split in SPLITS for side in self.lines[split] for line in side)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.settle(self.fitted)
        if self.tokenizer:
            must_belong(self.tokenizer, self.bpe)
        return {split: self.encoded(split) for split in SPLITS}

    @property
    def bpe(self) -> BPE:
        if not isinstance(self.words, BPE):
            raise UserError("the vocabulary of these weights is none of byte pairs; train anew, without it")
        return self.words

    def fitted(self) -> BPE:
        if not self.tokenizer:
            sources, targets = self.lines["train"]
            return BPE.fitted([*sources, *targets], self.merges, self.lowercase, sentences=True)
        words = read_tokenizer(self.tokenizer, sentences=True)
        if (words.pad, words.bos, words.eos, words.unk) != (PAD, BOS, EOS, UNK):
            raise UserError(f"data.tokenizer={self.tokenizer}: its ids 0 to 3 must be {', '.join(SPECIALS)}")
        return words

    def encoded(self, split: str) -> Pairs:
        sources, targets = (self.bpe.batch(lines) for lines in self.lines[split])
        most = self.context - 1  # tokens besides <eos>, or <bos>
        long = [max(len(s), len(t)) > most for s, t in zip(sources, targets, strict=True)]
        if any(long):
            done = "left out" if split == "train" else "cut"
            log.info("%s split: %d pairs longer than data.context=%d are %s", split, sum(long), self.context, done)
        if split == "train":
            kept = [place for place, is_long in enumerate(long) if not is_long]
            if not kept:
                raise UserError(f"data.context={self.context}: every pair is longer; raise it")
            self.lines[split] = tuple([lines[place] for place in kept] for lines in self.lines[split])  # type: ignore[assignment]
            sources, targets = [sources[place] for place in kept], [targets[place] for place in kept]
        return paired([ids[:most] for ids in sources], [ids[:most] for ids in targets])

    def sources(self, split: str) -> list[str]:
        self.setup()
        return self.lines[split][0]

    def references(self, split: str) -> list[str]:
        """In lower case where the translations are."""
        self.setup()
        lines = self.lines[split][1]
        return [line.lower() for line in lines] if self.words is not None and self.words.lowercase else lines

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "context": self.context}

    def pretend(self, items: int) -> None:
        """For a pre-flight check: `items` random pairs, as long as the real ones are on average."""
        count = stated(self.dims, 256 + len(SPECIALS) + self.merges)
        known = self.vocabulary or self.tokenizer
        words = self.settle(self.fitted) if known else Words([str(each) for each in range(count - len(SPECIALS))])
        self.words = words
        self.dims = agreed(self.dims, self.facts())
        draw = torch.Generator().manual_seed(self.seed)
        long = min(USUAL, self.context - 1)
        sides = torch.randint(len(SPECIALS), len(words), (2, items, long), generator=draw).tolist()
        self.splits = dict.fromkeys(SPLITS, paired(*sides))
        one, other = ([words.decode(ids) for ids in side] for side in sides)
        self.lines = dict.fromkeys(SPLITS, (one, other))


USUAL = 15  # tokens of a sentence of Multi30k, on average


def content_of(folder: Path, name: str) -> tuple[Path, bytes]:
    """A file or, where only that is there, its .gz. UserError where neither is, or it cannot be unpacked."""
    path, packed = folder / name, folder / f"{name}.gz"
    try:
        return (path, path.read_bytes()) if path.is_file() else (packed, gzip.decompress(packed.read_bytes()))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file, nor {name}.gz") from error
    except (OSError, EOFError) as error:
        raise UserError(f"{packed} is damaged ({error}): delete it to download it again") from error
