"""`dl-zoo sample`: text from a run's folder alone, streamed, the same for the same seed; one line for each misuse."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Said, one_line
from torch import nn

from dl_zoo import checkpoints, pretrained
from dl_zoo.commands import sample, sample_text
from dl_zoo.compose import compose
from dl_zoo.data.vocabulary import BPE, Characters, Words
from dl_zoo.errors import UserError
from dl_zoo.run import Result, run
from dl_zoo.trained import load

TEXT = "Now is the winter of our discontent\nMade glorious summer by this sun of York;\n" * 12
SMALL = ["model.width=16", "model.depth=1", "model.heads=2", "data.context=16", "trainer=cpu", "logger=none"]
SMALL += ["data.batch_size=8", "trainer.max_epochs=1", "trainer.limit_train_batches=3", "pictures=false"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A character model of a file that is gone afterwards. Read it, copy it, but do not change it."""
    folder = tmp_path_factory.mktemp("sample")
    file = folder / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    words = ["model=gpt_char", "data=text_file", f"data.path={file}", f"run_dir={folder / 'run'}", *SMALL]
    result = run(compose(words), quiet=True)
    file.unlink()
    return result


def sampled(cli: Callable[..., Said], path: Any, *arguments: str, length: int = 40) -> str:
    said = cli("sample", str(path), "--prompt", "Now is", "--length", str(length), *arguments)
    assert (said.code, said.err) == (0, ""), said
    return said.out


def test_a_text_goes_on_after_its_prompt(cli: Callable[..., Said], trained: Result) -> None:
    out = sampled(cli, trained.folder)
    assert out.startswith("Now is")
    assert len(out) == len("Now is") + 40 + 1
    assert set(out) <= set(TEXT)  # one symbol a token: its last is the line's end


def test_what_ships_is_sampled_by_name(
    cli: Callable[..., Said], trained: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its card has the vocabulary, and the data the context of the net."""
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "weights")
    checkpoints.publish(trained.folder, "gpt_char-python_docs", licence="CC0")
    assert sampled(cli, "zoo:gpt_char-python_docs") == sampled(cli, trained.folder)
    run = load("zoo:gpt_char-python_docs")
    assert run.data.vocabulary == load(trained.folder).data.vocabulary
    assert run.config.data.context == run.config.model.context == 16


def test_equal_seeds_give_equal_texts(cli: Callable[..., Said], trained: Result) -> None:
    before = torch.get_rng_state()
    first = sampled(cli, trained.folder, "--seed", "1")
    assert first == sampled(cli, trained.folder, "--seed", "1")
    assert first != sampled(cli, trained.folder, "--seed", "2")
    assert torch.equal(before, torch.get_rng_state())


def test_the_likeliest_needs_no_seed(cli: Callable[..., Said], trained: Result) -> None:
    greedy = sampled(cli, trained.folder, "--temperature", "0")
    assert greedy == sampled(cli, trained.folder, "--temperature", "0", "--seed", "7")
    assert greedy == sampled(cli, trained.folder, "--top-k", "1", "--seed", "7")
    assert greedy != sampled(cli, trained.folder, "--seed", "7")


def test_each_piece_is_told_at_once(
    trained: Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    def noting(*args: Any, **kwargs: Any) -> Iterator[str]:
        for piece in pieces(*args, **kwargs):
            told.append(capsys.readouterr().out)  # what was printed before this piece was asked for
            yield piece

    pieces = sample_text.text
    monkeypatch.setattr(sample_text, "text", noting)
    assert sample.main([str(trained.folder), "--prompt", "Now", "--length", "3"]) == 0
    assert told[0] == ""
    assert told[1] == "Now"
    assert [len(each) for each in told[2:5]] == [1, 1, 1]


def test_a_checkpoint_alone_will_do(cli: Callable[..., Said], trained: Result, tmp_path: Path) -> None:
    file = tmp_path / "moved.ckpt"
    shutil.copy(checkpoints.find(trained.folder), file)
    assert sampled(cli, file) == sampled(cli, trained.folder)


# ---- misuse --------------------------------------------------------------------------------------------------------


def test_a_symbol_that_the_model_does_not_know_is_named(cli: Callable[..., Said], trained: Result) -> None:
    line = one_line(cli("sample", str(trained.folder), "--prompt", "Now §"))
    assert "--prompt" in line
    assert "'§'" in line
    assert "character 5" in line


@pytest.mark.parametrize("prompt", [[], ["--prompt", ""]])
def test_a_text_needs_a_beginning(cli: Callable[..., Said], trained: Result, prompt: list[str]) -> None:
    assert "a text needs a beginning: --prompt" in one_line(cli("sample", str(trained.folder), *prompt))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--length", "0"], "--length 0: must be at least 1"),
        (["--length", "many"], "argument --length: invalid int value: 'many'; see dl-zoo sample --help"),
        (["--temperature", "-1"], "--temperature -1.0: must be at least 0"),
        (["--temperature", "nan"], "--temperature nan: must be at least 0"),
        (["--temperature", "inf"], "--temperature inf: must be at least 0"),
        (["--top-k", "0"], "--top-k 0: must be at least 1"),
        (["--seed", "-1"], "--seed -1: must be from 0"),
        (["--seed", str(2**63)], "must be from 0"),
        (["--checkpoint", "first"], "argument --checkpoint: invalid choice: 'first'"),
    ],
)
def test_numbers_that_are_none_are_told(cli: Callable[..., Said], arguments: list[str], said: str) -> None:
    assert said in one_line(cli("sample", "nowhere", "--prompt", "Now", *arguments))


def test_a_run_that_is_not_there_is_told(cli: Callable[..., Said]) -> None:
    assert "nowhere" in one_line(cli("sample", "nowhere", "--prompt", "Now"))


@pytest.mark.parametrize(
    ("vocabulary", "said"),
    [
        (None, "it carries no vocabulary"),
        ({"kind": "runes"}, "its vocabulary cannot be read"),
        ({"kind": "words"}, "read"),
    ],
)
def test_a_checkpoint_without_its_vocabulary_is_told(vocabulary: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"here: .*{said}"):
        sample_text.vocabulary({"vocabulary": vocabulary}, "here")


# ---- text out of tokens --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [Characters.fitted("aé☃ \n𝄞b"), BPE.fitted(["a b"], merges=5)])
def test_pieces_are_whole_characters_and_together_the_text(words: Any) -> None:
    text = "a é☃ 𝄞\nb" * 40
    ids = words.encode(text)
    begun, rest = ids[:2], ids[2:]
    pieces = list(sample_text.streamed(words, begun, iter(rest)))
    assert words.decode(begun) + "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 100  # and not all at once


def test_bytes_that_are_no_text_do_not_stop_the_stream() -> None:
    words = BPE.fitted(["a b"], merges=5)
    lone = words.encode("☃")[:1]  # the first of three bytes, again and again
    pieces = list(sample_text.streamed(words, words.encode("a"), iter(lone * 100)))
    assert "".join(pieces).count("\ufffd") == 100


def test_words_keep_the_spaces_between_them() -> None:
    words = Words.fitted(["a dog sees a cat"])
    pieces = list(sample_text.streamed(words, words.encode("a"), iter(words.encode("dog sees a cat"))))
    assert pieces == [" dog", " sees", " a", " cat", ""]


def test_a_word_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(UserError, match="--prompt: bird: not in this vocabulary"):
        sample_text.encoded(Words.fitted(["a dog"]), "a bird")


def test_a_prompt_that_is_no_text_is_told() -> None:
    with pytest.raises(UserError, match="character 2 is no text"):
        sample_text.encoded(Characters.fitted("a"), "a\udcff")


def test_a_long_stream_costs_the_same_at_its_end() -> None:
    """Each new token is decoded with a few before it, never with all of them."""
    asked: list[int] = []

    class Counting(nn.Module):
        def decode(self, ids: list[int]) -> str:
            asked.append(len(ids))
            return "x" * len(ids)

    assert len("".join(sample_text.streamed(Counting(), [0] * 500, iter([0] * 500)))) == 500
    assert max(asked) <= sample_text.BEHIND + 1


def test_any_recurrent_net_writes(cli: Any) -> None:
    small = ["data=python_docs", "data.context=16", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]
    run = ["trainer.max_epochs=1", "trainer=cpu", "run_dir=gru", "trainer.limit_test_batches=1"]
    task = ["task=carried_language_modelling", "data=text_stream"]
    assert cli("train", "model=gru", "model.read=all", "model.width=8", *small, *task, *run).code == 0
    said = cli("sample", "gru", "--prompt", "The ", "--length", "20")
    assert said.code == 0
    assert said.out.startswith("The ")
    assert len(said.out) == 25
