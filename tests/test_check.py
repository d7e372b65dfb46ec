"""`check` finds what is wrong before anything runs, all of it, and leaves nothing behind."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Said, one_line

from dl_zoo import dataset
from dl_zoo.compose import compose
from dl_zoo.data.mnist import MNIST
from dl_zoo.options import names
from dl_zoo.preflight import check
from dl_zoo.run import Result, run


def test_four_mistakes_are_told_at_once(cli: Callable[..., Said]) -> None:
    said = cli(
        "check", "model=lenet5_1998", "optimizr.lr=1", "regularizer=[dropout]", "data.batch_size=0", "scheduler=cosin"
    )
    assert said.code == 2
    assert said.out == ""
    assert said.err.splitlines() == [
        "dl-zoo: optimizr.lr: there is no such key; did you mean optimizer.lr?",
        "dl-zoo: scheduler=cosin: there is no such scheduler; did you mean cosine?",
        "dl-zoo: regularizer=dropout sets model.dropout, but model lenet5_1998 has no argument 'dropout'; leave it out",
        "dl-zoo: data.batch_size=0: must be a whole number of at least 1",
    ]


def test_mistakes_of_every_part_are_found_though_none_can_be_composed_away(cli: Callable[..., Said]) -> None:
    said = cli(
        "check", "model=mlp", "model.activation=rellu", "optimizer.eps=-1", "trainer.precision=7", "logger=csv",
        "weights=nowhere.pt", "run_dir=/proc/x/y", "data.std=[1,2]",
    )  # fmt: skip
    text = said.err
    for part in ("optimizer: Invalid epsilon value: -1", "trainer: Precision 7 is invalid", "data.std=[1.0, 2.0]"):
        assert part in text, text
    assert said.code == 2


def test_a_broken_net_hides_no_broken_optimizer() -> None:
    mistakes = check(["model=lenett", "optimizer.betas=[2,2]", "trainer.precision=7"]).mistakes
    assert len(mistakes) == 3
    assert mistakes[0] == "model=lenett: there is no such model; did you mean lenet5?"


def test_what_only_a_step_can_show(cli: Callable[..., Said]) -> None:
    assert "task.monitor=val/los: there is no such metric" in one_line(cli("check", "task.monitor=val/los"))
    assert "the first step diverges" in one_line(cli("check", "model=mlp", "data.std=[1.0e-40]", "trainer=cpu"))


def test_a_sound_run_is_described_and_nothing_is_left(tmp_path: Path, cli: Callable[..., Said]) -> None:
    said = cli("check", "experiment=lenet5_digits", "trainer=cpu")
    assert said.code == 0, said.err
    for part in (
        "6 x 28 x 28", "inputs 32 x 1 x 32 x 32, targets 32", "61,706 trainable", "weights 247 kB", "optimizer 494 kB",
        "34 steps an epoch, 1360 in all", "no mistakes",
    ):  # fmt: skip
        assert part in said.out
    assert re.search(r"activations [\d.]+ [kM]B", said.out)
    assert not list(tmp_path.iterdir())


def test_activations_are_what_backward_keeps() -> None:
    """A linear net keeps its input and its two hidden outputs, 4 bytes each: 32 * (64 + 100 + 100) * 4."""
    lines = check(["model=mlp", "model.width=100", "model.activation=linear", "trainer=cpu"]).lines
    memory = next(line for line in lines if line.startswith("memory"))
    kept = float(re.search(r"activations ([\d.]+) kB", memory)[1])  # type: ignore[index]
    assert kept == pytest.approx(32 * (64 + 100 + 100) * 4 / 1000, rel=0.2)


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Said]) -> None:
    monkeypatch.setattr(MNIST, "prepare_data", lambda self: pytest.fail("a download"))
    said = cli("check", "data=mnist", f"data_dir={tmp_path}", "trainer=cpu", "model=mlp")
    assert said.code == 0, said.err
    assert f"not in {tmp_path} yet: a run downloads train-images-idx3-ubyte" in said.out
    assert "55,000" not in said.out
    assert "430 steps an epoch" in said.out


def test_weights_that_do_not_fit_are_told(finished: Result) -> None:
    assert not check([f"weights={finished.folder}", "trainer=cpu"]).mistakes
    assert check([f"weights={finished.folder}", "model=mlp", "trainer=cpu"]).mistakes


@pytest.mark.parametrize(
    "word", [f"{group}={name}" for group in ("optimizer", "scheduler", "initializer") for name in names(group)]
)
def test_every_option_takes_a_step(word: str) -> None:
    assert not check([word, "model=mlp", "model.width=8", "data.batch_size=4", "trainer=cpu"]).mistakes


def test_the_state_of_torch_is_not_changed() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    check(["model=mlp", "trainer=cpu"])
    assert torch.equal(before, torch.get_rng_state())


def test_one_mistaken_regularizer_hides_no_other() -> None:
    words = ["regularizer=[ema,early_stopping]", "regularizer.ema.decay=2", "regularizer.early_stopping.patience=0"]
    assert check(words).mistakes == [
        "regularizer.ema.decay=2: must be at least 0 and below 1",
        "regularizer.early_stopping.patience=0: must be at least 1",
    ]
    assert len(check(["task.loss=foo", "optimizer.lr=-1"]).mistakes) == 2


@pytest.mark.parametrize(
    "words",
    [["+trainer.check_val_every_n_epoch=2"], ["+trainer.val_check_interval=10"], ["trainer.precision=bf16-true"]],
    ids=lambda words: words[-1],
)
def test_no_false_alarm(words: list[str]) -> None:
    assert not check([*words, "trainer=cpu", "model=mlp"]).mistakes


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer=lbfgs", "trainer.accumulate_grad_batches=2"],
        ["scheduler=cosine", "trainer.max_epochs=-1"],
        ["regularizer=swa", "trainer.max_epochs=-1"],
        ["scheduler=plateau", "trainer.limit_val_batches=0"],
    ],
    ids=lambda words: words[-1],
)
def test_no_mistake_is_missed(words: list[str]) -> None:
    assert len(check([*words, "trainer.accelerator=cpu", "model=mlp"]).mistakes) == 1


def test_the_time_is_that_of_the_run() -> None:
    lines = check(["trainer=smoke", "trainer.accelerator=cpu", "model=mlp"]).lines
    assert "2 steps an epoch, 2 in all" in next(line for line in lines if line.startswith("time"))


# ---- text ------------------------------------------------------------------------------------------------------------

TRANSLATOR = ["model=transformer_small", "model.width=16", "model.heads=2", "model.hidden=16", "model.depth=1"]
TRANSLATOR += ["data=reverse_pairs", "data.length=4", "data.batch_size=8", "trainer=cpu"]


@pytest.mark.parametrize(
    ("words", "logged"),
    [
        ([], ["test/bleu", "val/bleu"]),  # lists: the order of a set is not the same in every process
        (["task.monitor=val/bleu", "task.mode=max"], ["test/bleu", "val/bleu"]),
        (["task.bleu_items=0"], ["test/bleu"]),
        (["trainer.max_epochs=0"], ["test/bleu", "val/bleu"]),
    ],
    ids=str,
)
def test_bleu_is_among_what_a_translator_logs(words: list[str], logged: list[str]) -> None:
    found = check([*TRANSLATOR, *words])
    assert found.mistakes == []
    assert sorted(name for name in found.metrics if name.endswith("/bleu")) == logged


def test_a_bleu_that_is_not_asked_for_cannot_be_watched() -> None:
    (mistake,) = check([*TRANSLATOR, "task.bleu_items=0", "task.monitor=val/bleu"]).mistakes
    assert mistake == "task.monitor=val/bleu: there is no such metric; there are val/acc, val/loss, val/ppl"


def test_a_net_that_goes_on_keeps_its_words(tmp_path: Path) -> None:
    """Those of the weights, and not those of data that are not there yet; symbols of generated data are their own."""
    (tmp_path / "text.txt").write_text("abcdefg " * 60)
    small = ["model=gpt_char", "model.width=8", "model.heads=2", "model.depth=1", "data.context=8", "trainer=cpu"]
    quick = ["trainer.max_epochs=0", "logger=none", "pictures=false", "run_dir=first"]
    run(compose([*small, *quick, "data=text_file", f"data.path={tmp_path / 'text.txt'}"]), quiet=True)
    there = [*small, "data=tinyshakespeare", f"data_dir={tmp_path}", "weights=first"]
    found = check(there)
    assert found.mistakes == []
    assert dataset.pretended(compose(there), "first").dims["vocab_size"] == 8
    assert check([word for word in there if word != "weights=first"]).mistakes == []
    assert dataset.built(compose([*small, "data=text_file"]), "first").vocabulary["symbols"] == " abcdefg"
    for others in (["model=gpt_char", "data=reverse"], ["model=seq2seq", "data=reverse_pairs"]):
        symbols = compose(others)
        own = dataset.built(symbols, None).vocabulary
        assert dataset.built(symbols, "first").vocabulary == own
