"""Vocabularies: text -> ids -> text, fitted on training text and carried in the checkpoint.

Three kinds with one face: `encode`, `decode`, `symbols` (a list, id -> text), `len`, and `plain()`, which is JSON and
from which `restored` makes the same vocabulary again.

    Characters   one id a character; nothing else, so `pad`, `bos`, `eos`, `unk` are None
    Words        what white space separates; a rare word is <unk>
    BPE          byte-pair encoding: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword
                 Units", 2016, arXiv:1508.07909, of bytes as in GPT-2 (Radford et al. 2019, section 2.2), so that any
                 text encodes; by the `tokenizers` library

Words and BPE begin with <pad> 0, <bos> 1, <eos> 2, <unk> 3. None of these comes out of `encode`, whatever the text, but
<unk> for a rare word; a text that says "<eos>" is text. `mask=True` adds <mask> as the last id. A tokenizer of another
make may have these elsewhere and by other names (`ALIASES`); where it has a mask, that is the one.

`lowercase` says whether capitals are lost in the ids, and `ends` whether <eos> belongs behind every text.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dl_zoo.errors import UserError

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)
MASK = "<mask>"
ALIASES = {"<pad>": "[PAD]", "<bos>": "[CLS]", "<eos>": "[SEP]", "<unk>": "[UNK]", MASK: "[MASK]"}  # BERT's
LONGEST = 2**16  # lines that are tokenized at once


class Characters:
    """
    >>> words = Characters("abn")
    >>> words.encode("banana"), words.decode([1, 0, 2])
    ([1, 0, 2, 0, 2, 0], 'ban')
    """

    pad = bos = eos = unk = None
    lowercase = ends = False

    def __init__(self, symbols: Sequence[str], mask: bool = False):
        self.characters = list(symbols)
        if self.characters != sorted(set(symbols)):
            raise ValueError("an alphabet has each character once, in ascending order")
        self._codes = np.array([ord(each) for each in self.characters], dtype=np.uint32)  # ascending
        self.mask = len(self.characters) if mask else None
        self.symbols = [*self.characters, *([MASK] if mask else [])]

    @classmethod
    def fitted(cls, text: str, mask: bool = False) -> "Characters":
        return cls(sorted(set(text)), mask)

    def __len__(self) -> int:
        return len(self.symbols)

    def array(self, text: str) -> np.ndarray:
        """(N,) int32. UserError for a character that is not in the vocabulary."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        unknown = (self._codes[ids] != codes).nonzero()[0]
        if len(unknown):
            place = int(unknown[0])
            raise UserError(
                f"character {place + 1} of the text is {text[place]!r}, which is not among the {len(self.characters)}"
                " of this vocabulary; leave it out"
            )
        return ids.astype(np.int32)

    def encode(self, text: str) -> list[int]:
        return self.array(text).tolist()

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.symbols[each] for each in ids)

    def plain(self) -> dict[str, Any]:
        return {"kind": "characters", "symbols": "".join(self.characters), "mask": self.mask is not None}


class Words:
    """
    >>> words = Words.fitted(["a dog", "a cat"])
    >>> words.encode("a bird"), words.decode([1, 4, 6, 2])
    ([4, 3], 'a dog')
    """

    pad, bos, eos, unk = PAD, BOS, EOS, UNK
    ends = False

    def __init__(self, symbols: Sequence[str], mask: bool = False, lowercase: bool = False):
        """`symbols` without the four special ones."""
        self.known, self.lowercase = list(symbols), lowercase
        self.mask = len(self.known) + len(SPECIALS) if mask else None
        self.symbols = [*SPECIALS, *self.known, *([MASK] if mask else [])]
        self._ids = {each: number for number, each in enumerate(self.known, len(SPECIALS))}

    @classmethod
    def fitted(cls, lines: Iterable[str], min_freq: int = 1, mask: bool = False, lowercase: bool = False) -> "Words":
        """The words that occur `min_freq` times or more, the most frequent first, equals in the alphabet's order."""
        counts = Counter(word for line in lines for word in (line.lower() if lowercase else line).split())
        known = sorted((word for word, count in counts.items() if count >= min_freq), key=lambda w: (-counts[w], w))
        return cls(known, mask, lowercase)

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(word, UNK) for word in (text.lower() if self.lowercase else text).split()]

    def array(self, text: str) -> np.ndarray:
        return np.array(self.encode(text), dtype=np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self.symbols[each] for each in ids if each not in (PAD, BOS, EOS))

    def plain(self) -> dict[str, Any]:
        mask = self.mask is not None
        return {"kind": "words", "symbols": list(self.known), "mask": mask, "lowercase": self.lowercase}


class BPE:
    """Bytes, joined to longer and longer symbols; never over a line's end or the space before a word.

    So it is where it is `fitted`; of a file it is whatever the library can read, such as BERT's pieces of words.

    `sentences`: a text is one sentence, so white space at its ends means nothing and its first word is encoded like
    any other. Without it, and without `lowercase`, a text decodes to itself, to the character.

    >>> words = BPE.fitted(["low lower lowest", "newer wider"], merges=10)
    >>> words.decode(words.encode("lower <eos> über")), len(words) <= 4 + 256 + 10
    ('lower <eos> über', True)
    """

    def __init__(self, library: Mapping[str, Any] | str, mask: bool = False, sentences: bool = False):
        """`library`: what the library keeps of a tokenizer, JSON. ValueError where it cannot read it."""
        from tokenizers import Tokenizer

        self.json = library if isinstance(library, str) else json.dumps(library)
        try:
            self._tokenizer = Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises no kind of its own
            raise ValueError(" ".join(str(error).split())) from error
        self._tokenizer.encode_special_tokens = True  # a text that says "<eos>" is text
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.sentences = sentences
        count = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())  # ids may have gaps
        own = self._special(MASK)  # the library's, or else one more id
        self.mask = None if not mask else count if own is None else own
        self.symbols = [self._shown(number) for number in range(count)] + ([MASK] if self.mask == count else [])
        ids = [self._special(name) for name in SPECIALS]
        self.pad, self.bos, self.eos, self.unk = ids
        self._left_out = {each for each in (*ids[:3], self.mask) if each is not None}
        normalizer = self._tokenizer.normalizer
        self.lowercase = normalizer is not None and normalizer.normalize_str("A").islower()
        framed = self._tokenizer.encode("", add_special_tokens=True).ids
        self.ends = bool(framed) and framed[-1] == self.eos

    @classmethod
    def fitted(
        cls,
        lines: Iterable[str],
        merges: int = 8000,
        lowercase: bool = False,
        sentences: bool = False,
        mask: bool = False,
    ) -> "BPE":
        """The `merges` most frequent ones, fewer where the text has no more pairs that occur twice.

        Equal texts give equal vocabularies: the library breaks ties by the symbols' ids.
        """
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        steps = [normalizers.NFC(), normalizers.Strip()] if sentences else []
        tokenizer.normalizer = normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lowercase else [])])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=sentences)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=len(SPECIALS) + len(alphabet) + merges,
            min_frequency=2,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(alphabet),
            show_progress=False,
        )
        tokenizer.train_from_iterator((line for text in lines for line in in_lines(text)), trainer)
        return cls(tokenizer.to_str(), mask, sentences)

    def __len__(self) -> int:
        return len(self.symbols)

    def _special(self, name: str) -> int | None:
        """Its id, by our name or BERT's. A pair that only happens to spell such a name is none."""
        added = {token.content: number for number, token in self._tokenizer.get_added_tokens_decoder().items()}
        ids = [added[each] for each in (name, ALIASES[name]) if each in added]
        return ids[0] if ids else None if name == MASK else self._tokenizer.token_to_id(name)

    def _shown(self, number: int) -> str:
        """Its text; of bytes that are no whole characters, the library's stand-ins."""
        name = self._tokenizer.id_to_token(number) or ""
        text = self._tokenizer.decode([number], skip_special_tokens=False)
        return name if "\ufffd" in text or not text else text

    def array(self, text: str) -> np.ndarray:
        """(N,) int32, line by line, in pieces: the library keeps some hundred bytes a token while it works."""
        lines = in_lines(text)
        pieces = [self.batch(lines[start : start + LONGEST]) for start in range(0, len(lines), LONGEST)]
        flat = [np.array(ids, dtype=np.int32) for piece in pieces for ids in piece]
        return np.concatenate(flat) if flat else np.zeros(0, dtype=np.int32)

    def batch(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of many texts without line ends, faster than one by one."""
        encoded = self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        return [each.ids for each in encoded]

    def encode(self, text: str) -> list[int]:
        return [each for ids in self.batch(in_lines(text)) for each in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Of <pad>, <bos>, <eos> and <mask> nothing is left; bytes that are no UTF-8 become U+FFFD."""
        kept = [each for each in ids if each not in self._left_out]
        text = self._tokenizer.decode(kept, skip_special_tokens=False)
        return text.strip() if self.sentences else text

    def plain(self) -> dict[str, Any]:
        return {"kind": "bpe", "library": self.json, "mask": self.mask is not None, "sentences": self.sentences}


Vocabulary = Characters | Words | BPE
KINDS: dict[str, Any] = {"characters": Characters, "words": Words, "bpe": BPE}


def restored(plain: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary whose `plain()` this is. ValueError where it is nobody's."""
    settings = dict(plain)
    kind = settings.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"a vocabulary of an unknown kind: {kind!r}")
    first = settings.pop("library" if kind == "bpe" else "symbols")
    words: Vocabulary = KINDS[kind](first, **settings)
    return words


def in_lines(text: str) -> list[str]:
    r"""With their ends; only \n ends one.

    >>> in_lines("a\n\nb"), in_lines("a\n"), in_lines("")
    (['a\n', '\n', 'b'], ['a\n'], [])
    """
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]
