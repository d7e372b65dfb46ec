"""Every kind of wrong input is answered by exactly the lines of messages.txt, exit code 2, and nothing left behind."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Said, one_line

TRANSCRIPT = Path(__file__).with_name("messages.txt").read_text(encoding="utf-8")
SAID = {
    command: answer.strip().splitlines()
    for command, _, answer in (part.partition("\n") for part in TRANSCRIPT.split("$ dl-zoo ")[1:])
}


@pytest.mark.parametrize("command", SAID)
def test_wrong_input_is_answered_by_these_lines(command: str, cli: Callable[..., Said]) -> None:
    Path("afile").write_text("x")
    said = cli(*shlex.split(command))
    assert said.code == 2
    assert "Traceback" not in said.err
    lines = [line.removeprefix("dl-zoo: ") for line in said.err.splitlines() if line.startswith("dl-zoo: ")]
    assert lines == SAID[command]
    assert not list(Path("runs").rglob("metrics.json"))


def test_a_mistake_of_the_configuration_leaves_nothing_behind(cli: Callable[..., Said]) -> None:
    for word in ("optimizr.lr=0.1", "freeze=[zebra]", "model.activation=rellu", "regularizer=[ema,swa]"):
        one_line(cli("train", word))
        assert not list(Path().iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(cli: Callable[..., Said]) -> None:
    said = one_line(cli("train", "trainer=cuda"))
    assert said == "dl-zoo: trainer.accelerator=cuda: there is no CUDA device here; trainer=auto takes what there is"


def test_what_others_say_is_passed_on_in_one_line(cli: Callable[..., Said]) -> None:
    for command in ("trainer.precision=7", "trainer.devices=0", "model.num_classes=many", "optimizer.betas=[2,2]"):
        part = command.partition(".")[0]
        assert one_line(cli("train", command)).startswith(f"dl-zoo: {part}: ")
    assert "invalid choice: 'hydra'" in one_line(cli("train", "--cfg", "hydra"))
    assert "invalid choice: 'tset'" in one_line(cli("evaluate", "x", "--split", "tset"))


def test_a_name_that_people_also_type_is_understood(cli: Callable[..., Said]) -> None:
    assert "LeNet5" in cli("train", "--cfg", "job", "model=lenet").out
