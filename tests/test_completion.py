"""What the Tab key offers, and the shells that ask for it."""

import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Said

from dl_zoo.commands.completion import words


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dl-zoo repr", ["reproduce"]),
        ("dl-zoo train model=vgg11", ["model=vgg11", "model=vgg11_bn", "model=vgg11_cifar"]),
        ("dl-zoo train model=mlp,vgg11_b", ["model=mlp,vgg11_bn"]),
        ("dl-zoo train regularizer=[l1,el", ["regularizer=[l1,elastic"]),
        ("dl-zoo train optimizer=sgd optimizer.mom", []),
        ("dl-zoo train optimizer=momentum optimizer.mom", ["optimizer.momentum="]),
        ("dl-zoo check regularizer=[dropout] regularizer.dropout.", ["regularizer.dropout.rate="]),
        ("dl-zoo train model=nosuch trainer.max_e", ["trainer.max_epochs="]),
        ("dl-zoo reproduce claim=c08_x", ["claim=c08_xavier_30_layers"]),
        ("dl-zoo reproduce claim=c08_xavier_30_layers tier=s", ["tier=smoke"]),
        ("dl-zoo info lenet5_", ["lenet5_1998"]),
        ("dl-zoo completion f", ["fish"]),
        ("dl-zoo evaluate runs/", []),
        ("dl-zoo train 'regularizer=[l1,el", ["regularizer=[l1,elastic"]),  # brackets want quotes in most shells
        ('dl-zoo check "regularizer=[dropout]" "regularizer.dropout.', ["regularizer.dropout.rate="]),
    ],
)
def test_what_may_follow(line: str, offered: list[str]) -> None:
    assert words(line) == offered


def test_options_of_ones_own_are_offered(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("{}")
    assert words(f"dl-zoo train --config-dir {tmp_path} model=mi") == ["model=mine"]


def test_a_shell_that_there_is_not(cli: Callable[..., Said]) -> None:
    said = cli("completion", "tcsh")
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert "bash" in said.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dl-zoo che", ["check"]),
        ("dl-zoo train model=lenet5", ["lenet5", "lenet5_1998"]),  # bash breaks words at =
        ("dl-zoo train regularizer=[l1,el", ["[l1,elastic"]),
        ("dl-zoo train 'regularizer=[l1,el", ["regularizer=[l1,elastic"]),  # but not in quotes
        ("dl-zoo evaluate conf", ["configs"]),  # files, where nothing is known
    ],
)
def test_bash_is_told_what_is_left_of_its_word(line: str, offered: list[str], cli: Callable[..., Said]) -> None:
    Path("configs").mkdir()
    shim = f'dl-zoo() {{ "{sys.executable}" -m dl_zoo "$@"; }}\n'
    asked = f"COMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}; _dl_zoo; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    program = shim + cli("completion", "bash").out + asked
    said = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == offered, said.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes(cli: Callable[..., Said]) -> None:
    program = f'function dl-zoo; "{sys.executable}" -m dl_zoo $argv; end\n{cli("completion", "fish").out}'
    for line in ("dl-zoo che", "dl-zoo train 'regularizer=[l1,el"):
        program += f'complete -C "{line}"\n'
    said = subprocess.run(["fish", "--no-config"], input=program, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["check", "regularizer=[l1,elastic"], said.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_completes_what_is_typed(cli: Callable[..., Said]) -> None:
    shim = f'dl-zoo() {{ "{sys.executable}" -m dl_zoo "$@"; }}\n'
    Path("set_up").write_text(f"{shim}autoload -Uz compinit; compinit -u -D\n{cli('completion', 'zsh').out}")
    program, terminal = pty.fork()
    if program == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb"})
    try:
        os.write(terminal, b"source set_up; print loaded$((1))\n")
        heard(terminal, "loaded1")
        os.write(terminal, b"dl-zoo che\t")
        heard(terminal, "dl-zoo check")
        os.write(terminal, b"\x15" + b"dl-zoo train 'regularizer=[l1,el\t")
        heard(terminal, "'regularizer=[l1,elastic")
    finally:
        os.kill(program, signal.SIGKILL)
        os.waitpid(program, 0)
        os.close(terminal)


def heard(terminal: int, words: str) -> None:
    """Waits until the terminal has said it."""
    said = b""
    while words.encode() not in said:
        assert select.select([terminal], [], [], 20)[0], said
        said += os.read(terminal, 9999)


def test_claims_are_listed_with_cost_and_verdict(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    said = cli("claims", "c08_x*")
    first, second = said.out.splitlines()
    assert first.split(maxsplit=4)[:4] == ["c08_xavier_30_layers", "2.9", "min", "at"]
    assert "CONFIRMED AT REDUCED SCALE" in first
    assert second.strip() == "A net of 30 rectified layers learns from He's initial weights and stalls with Xavier's."
    monkeypatch.chdir(tmp_path)
    assert cli("claims", "c08_x*").out == said.out, "from any folder, where there are no others"
    none = cli("claims", "zebra")
    assert (none.code, none.err.count("\n")) == (2, 1)


def test_a_card_of_ones_own_that_is_not_sound_is_told_in_its_own_words(
    cli: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "claim").mkdir()
    (tmp_path / "claim" / "mine.yaml").write_text("claim: it is so\n")
    said = cli("claims", "mine", "--config-dir", str(tmp_path))
    assert said.code == 2
    assert "claim=mine: no arms" in said.err
    assert "Traceback" not in said.err
