"""A text of your own, for language models: any file in UTF-8.

The first 90 % of its characters are for training and what follows is for validation, uncut and in order, as nanoGPT
splits tinyshakespeare (1,003,854 and 111,540 characters). There the test set is the validation set, unless `test_share`
cuts one off the end: so little text is not worth a third part, and what is reported of it is the validation loss.

`unit: characters`: the alphabet is that of the whole file. Which characters exist tells nothing of the text, and
without it a rare one could not be read in validation. `unit: bpe`: fitted on the training text alone.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dl_zoo.data.memory import at_least_one
from dl_zoo.data.text import Batches, TextData, TextLoader, agreed, windows_of
from dl_zoo.data.vocabulary import BPE, Characters, Vocabulary
from dl_zoo.errors import UserError

UNITS = ("characters", "bpe")


class TextFile(TextData):
    """Windows of `context` tokens and the tokens that follow them: inputs (B, T), targets (B, T).

    Args:
        path: of the file. UserError, naming the offset, for bytes that are not UTF-8.
        unit: of the vocabulary: characters, or bpe with `merges` joined pairs and, if `lowercase`, no capitals.
        tokenizer: a file of the `tokenizers` library (tokenizer.json) to use instead of fitting; `unit` must be bpe.
        mask: one id more, the last one, for masked language models.
        context: tokens in a window; it becomes dims.context.
        val_share, test_share: of the characters.

    After `setup` there are also `origin` and `fingerprint`, which tell one text from another, and `characters`, by
    split. `sizes` count windows.
    """

    origin = "text_file"

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        path: str | None = None,
        unit: str = "characters",
        merges: int = 4000,
        lowercase: bool = False,
        tokenizer: str | None = None,
        mask: bool = False,
        context: int = 64,
        val_share: float = 0.1,
        test_share: float = 0.0,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("context", context)
        at_least_one("merges", merges)
        if unit not in UNITS:
            raise UserError(f"data.unit={unit}: must be {' or '.join(UNITS)}")
        if lowercase and unit == "characters":
            raise UserError("data.lowercase=true: only data.unit=bpe has it")
        if not (0 < val_share < 1 and 0 <= test_share < 1 and val_share + test_share < 1):
            raise UserError(f"data.val_share={val_share} and data.test_share={test_share}: must leave some to train on")
        self.path = None if path is None else Path(path).expanduser().absolute()
        self.unit, self.merges, self.lowercase, self.mask = unit, merges, lowercase, mask
        self.tokenizer, self.context = tokenizer, context
        self.val_share, self.test_share = val_share, test_share
        self.characters: dict[str, int] = {}

    # ---- what a subclass says otherwise ----------------------------------------------------------------------------

    def text(self) -> str:
        if self.path is None:
            raise UserError("data.path: must name a text file in UTF-8")
        if not self.path.is_file():
            raise UserError(f"data.path={self.path}: there is no such file")
        return decoded(self.path.read_bytes(), f"data.path={self.path}")

    # ---- ids -------------------------------------------------------------------------------------------------------

    def read(self) -> dict[str, torch.Tensor]:
        text = self.text()
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        parts = shared_out(text, self.val_share, self.test_share)
        words = self.settle(partial(self.fitted, text, parts["train"]))
        if self.tokenizer:
            must_belong(self.tokenizer, words)
        if self.unit == "characters" and not isinstance(words, Characters):
            raise UserError("data.unit=characters: this vocabulary is none of characters; set data.unit=bpe")
        splits = {name: torch.from_numpy(words.array(part)) for name, part in parts.items() if name in ("train", "val")}
        splits["test"] = torch.from_numpy(words.array(parts["test"])) if self.test_share else splits["val"]
        for name, ids in splits.items():
            least = self.context + 1 if name == "train" else 2
            if len(ids) < least:
                needed = f"data.context={self.context} needs {least}"
                raise UserError(f"{name} split: {len(ids)} tokens, and {needed}; take a longer text")
        self.characters = {name: len(part) for name, part in parts.items()}
        return splits

    def fitted(self, text: str, train: str) -> Vocabulary:
        if self.tokenizer:
            return read_tokenizer(self.tokenizer, self.mask)
        if self.unit == "characters":
            return Characters.fitted(text, self.mask)
        return BPE.fitted([train], self.merges, self.lowercase, mask=self.mask)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "context": self.context}

    def counted(self) -> dict[str, int]:
        return {name: windows_of(len(ids), self.context, name == "train") for name, ids in self.splits.items()}

    def batches(self, split: str, shuffle: bool, rank: int, world_size: int) -> Batches:
        return TextLoader(
            self.splits[split],
            context=self.context,
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            fill=self.dims["pad_id"] or 0,
            rank=rank,
            world_size=world_size,
        )

    def pretend(self, items: int) -> None:
        """For a pre-flight check: `items` random windows, of the text's own vocabulary where it is at hand."""
        if not self.absent():
            self.setup()
            count = self.dims["vocab_size"]
        elif self.vocabulary or self.tokenizer:
            count = len(self.settle(partial(self.fitted, "", "")))
            self.dims = agreed(self.dims, self.facts())
        else:
            count = stated(self.dims, 256 + 4 + self.merges if self.unit == "bpe" else 65)
            pad = 0 if self.unit == "bpe" else None
            self.dims = {**self.dims, "vocab_size": count, "context": self.context, "pad_id": pad}
        generator = torch.Generator().manual_seed(self.seed)
        ids = torch.randint(count, ((items + 1) * self.context + 1,), generator=generator, dtype=torch.int32)
        self.splits = dict.fromkeys(("train", "val", "test"), ids)


def stated(dims: Mapping[str, Any], otherwise: int) -> int:
    """The size of a vocabulary that cannot be fitted yet."""
    return dims["vocab_size"] if isinstance(dims.get("vocab_size"), int) else otherwise


def decoded(content: bytes, name: str) -> str:
    """UserError that says where it is not UTF-8. A byte order mark is no part of the text."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = error.start + 3 * content.startswith(b"\xef\xbb\xbf")
        raise UserError(
            f"{name}: byte {place:,} (0x{content[place]:02x}, in line {content.count(10, 0, place) + 1:,}) is not"
            " UTF-8; iconv -f latin1 -t utf-8 converts a text of Western Europe"
        ) from error


def shared_out(text: str, val_share: float, test_share: float) -> dict[str, str]:
    """The beginning, what follows, and the end; with no test share the validation text is the test text, too.

    >>> shared_out("0123456789", 0.2, 0.1), shared_out("0123456789", 0.1, 0)["test"]
    ({'train': '0123456', 'val': '78', 'test': '9'}, '9')
    """
    first, second = int(len(text) * (1 - val_share - test_share)), int(len(text) * (1 - test_share))
    val = text[first:second]
    return {"train": text[:first], "val": val, "test": text[second:] if test_share else val}


def read_tokenizer(path: str, mask: bool = False, sentences: bool = False) -> BPE:
    """UserError where there is no such file, or the library cannot read it."""
    place = Path(path).expanduser()
    try:
        return BPE(json.dumps(json.loads(place.read_bytes())), mask, sentences)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(f"data.tokenizer={path}: no file of the tokenizers library ({reason})") from error


def must_belong(path: str, words: Vocabulary) -> None:
    """UserError where the file is another tokenizer than that of the checkpoint. A file that has gone is not missed."""
    if not Path(path).expanduser().exists():
        return
    if not isinstance(words, BPE) or read_tokenizer(path, words.mask is not None).symbols != words.symbols:
        raise UserError(f"data.tokenizer={path}: not the tokenizer of this checkpoint, which has its own; leave it out")
