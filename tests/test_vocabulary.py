"""Vocabularies: what goes in comes out, ids stay what they are, and a fit is the same wherever it is made."""

import json
import subprocess
import sys
from pathlib import Path

import berts_tokenizer as bert
import pytest
from tokenizers import Tokenizer, models

from dl_zoo.data.vocabulary import BPE, MASK, SPECIALS, Characters, Vocabulary, Words, restored
from dl_zoo.errors import UserError

LINES = ["Der Hund läuft über die Wiese.", "Ein Hund, zwei Hunde!", "the dog runs; the dogs run", "running  dogs"] * 3
ODD = ["", " ", "naïve 日本語 🙂", "<eos> <pad> <bos>", "a\tb\r\n\n c ", "\x00\x7f", "e\u0301"]


def fitted_all() -> list[Vocabulary]:
    text = "\n".join(LINES)
    return [Characters.fitted(text), Words.fitted(LINES), BPE.fitted(LINES, 50), BPE.fitted(LINES, 50, sentences=True)]


@pytest.mark.parametrize("words", fitted_all(), ids=lambda each: type(each).__name__)
def test_a_vocabulary_survives_json(words: Vocabulary) -> None:
    again = restored(json.loads(json.dumps(words.plain())))
    assert again.plain() == words.plain()
    assert (again.symbols, len(again)) == (words.symbols, len(words))
    assert [again.encode(line) for line in LINES] == [words.encode(line) for line in LINES]
    assert words.array(LINES[0]).tolist() == words.encode(LINES[0])
    assert all(isinstance(each, int) for each in words.encode(LINES[0]))


@pytest.mark.parametrize("words", fitted_all(), ids=lambda each: type(each).__name__)
def test_what_was_fitted_on_decodes_to_itself(words: Vocabulary) -> None:
    for line in LINES:
        expected = " ".join(line.split()) if isinstance(words, Words) else line
        assert words.decode(words.encode(line)) == expected


@pytest.mark.parametrize("words", fitted_all()[1:], ids=lambda each: type(each).__name__)
def test_special_ids(words: Vocabulary) -> None:
    assert (words.pad, words.bos, words.eos, words.unk) == (0, 1, 2, 3)
    assert tuple(words.symbols[:4]) == SPECIALS
    ids = words.encode(LINES[2])
    assert words.decode([1, *ids, 2, 0, 0]) == words.decode(ids), "of specials nothing is written"
    assert set(words.encode("<pad> <bos> <eos> <unk> <mask>")) <= {*range(3, len(words))}, "a text is text"


@pytest.mark.parametrize("text", ODD)
def test_any_text_encodes_as_bytes_to_the_character(text: str) -> None:
    words = BPE.fitted(LINES, 50)
    assert words.decode(words.encode(text)) == text
    assert 3 not in words.encode(text)


def test_sentences_have_no_ends_and_one_form() -> None:
    words = BPE.fitted(LINES, 50, lowercase=True, sentences=True)
    assert words.decode(words.encode("  Die Wiese\n")) == "die wiese"
    assert words.encode("die hunde")[-1:] == words.encode("hunde")[-1:], "a first word is a word like any other"
    assert words.encode("é") == words.encode("e\u0301"), "composed"
    assert words.encode("") == []
    assert words.decode([]) == ""


def test_merges_never_cross_a_line_and_lines_alone_make_the_same_ids() -> None:
    words = BPE.fitted(["ab\nab\nab\n"] * 5, 20)
    assert words.encode("ab\nab") == words.encode("ab\n") + words.encode("ab")
    assert words.batch(["ab", "", "x"]) == [words.encode("ab"), [], words.encode("x")]


def test_symbols_of_bytes_that_are_no_characters_have_a_name() -> None:
    symbols = BPE.fitted(LINES, 10).symbols
    assert all(symbols)
    assert "\ufffd" not in "".join(symbols)
    assert " the" in BPE.fitted(LINES, 100).symbols


def test_equal_texts_give_equal_vocabularies_in_any_process() -> None:
    """Many pairs are as frequent as others here: what decides must be neither hashing nor the threads."""
    program = (
        "from dl_zoo.data.vocabulary import BPE\n"
        "lines = [chr(97 + i * 7 % 26) + chr(97 + i * 11 % 26) + chr(97 + i % 26) for i in range(600)]\n"
        "said = BPE.fitted(lines, 300).json"
    )
    here: dict[str, str] = {}
    exec(program, here)
    there = subprocess.run(
        [sys.executable, "-c", f"{program}; print(said)"], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here["said"].strip()


def test_fewer_merges_where_nothing_occurs_twice() -> None:
    assert len(BPE.fitted(["ab"], 1000)) == 4 + 256
    assert len(BPE.fitted(["ab ab"], 1000)) == 4 + 256 + 1


def test_characters() -> None:
    words = Characters.fitted("hello\n")
    assert words.symbols == ["\n", "e", "h", "l", "o"]
    assert words.pad is words.bos is words.eos is words.unk is None
    with pytest.raises(UserError, match=r"character 5 of the text is 'a', which is not among the 5 of this vocabulary"):
        words.encode("hel\na")
    for strange in ("\x00", "\U0010ffff", "\udcff"):
        with pytest.raises(UserError, match="character 1 of the text"):
            words.encode(strange)


def test_words() -> None:
    words = Words.fitted(["b a a", "c b a"], min_freq=2)
    assert words.symbols[4:] == ["a", "b"], "the most frequent first"
    assert words.encode("a c b") == [4, 3, 5]
    assert words.decode([4, 3, 5]) == "a <unk> b"
    assert Words.fitted(["A a"], lowercase=True).encode("A") == [4]


def test_the_mask_is_the_last_id_and_never_encoded() -> None:
    for plain, masked in (
        (Characters.fitted("ab"), Characters.fitted("ab", mask=True)),
        (Words.fitted(["a b"]), Words.fitted(["a b"], mask=True)),
        (BPE.fitted(LINES, 9), BPE.fitted(LINES, 9, mask=True)),
    ):
        assert plain.mask is None
        assert masked.mask == len(plain) == len(masked) - 1
        assert masked.symbols == [*plain.symbols, MASK]
        assert masked.encode("a b".replace(" ", "")) == plain.encode("ab")
        assert restored(masked.plain()).mask == masked.mask
        assert len(masked.decode([masked.mask, *masked.encode("ab")])) >= 2


def test_what_is_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="unknown kind: 'runes'"):
        restored({"kind": "runes"})
    with pytest.raises(ValueError, match="Model missing"):
        restored({"kind": "bpe", "library": "{}", "mask": False, "sentences": False})


@pytest.mark.parametrize("symbols", ["ba", "aab"])
def test_an_alphabet_is_in_order(symbols: str) -> None:
    with pytest.raises(ValueError, match="each character once, in ascending order"):
        Characters(symbols)


@pytest.mark.parametrize("mask", [False, True])
def test_berts_tokenizer_keeps_its_own_special_ids(mask: bool, tmp_path: Path) -> None:
    words = BPE(bert.write(tmp_path / "tokenizer.json"), mask, sentences=True)
    assert (words.pad, words.bos, words.eos, words.unk) == (bert.PAD, bert.CLS, bert.SEP, bert.UNK)
    assert words.mask == (bert.MASK if mask else None)
    assert len(words) == len(bert.PIECES), "no mask beside its own"
    assert words.ends
    assert words.encode("Café bad [MASK]") == [8, 9, 7, 11, 13, 12], "a text that says so is text"
    assert words.decode([bert.CLS, 8, 9, 7, bert.SEP, bert.PAD]) == "cafe bad"
    assert restored(json.loads(json.dumps(words.plain()))).symbols == words.symbols


def test_a_pair_that_spells_a_special_name_is_none() -> None:
    symbols = {"<mask>": 0, "[CLS]": 1, "a": 2}
    words = BPE(Tokenizer(models.WordLevel(symbols, unk_token="a")).to_str(), mask=True)
    assert (words.symbols, words.mask, words.bos) == (["<mask>", "[CLS]", "a", MASK], 3, None)


def test_who_loses_capitals_and_who_closes_a_text(tmp_path: Path) -> None:
    assert not Characters("ab").lowercase
    assert [Words(["a"], lowercase=each).lowercase for each in (False, True)] == [False, True]
    for sentences in (False, True):
        fitted = [BPE.fitted(LINES, 5, lowercase=each, sentences=sentences) for each in (False, True)]
        assert [words.lowercase for words in fitted] == [False, True]
        assert not any(words.ends for words in fitted)
    assert BPE(bert.write(tmp_path / "tokenizer.json")).lowercase
