"""The time left of what takes long: a bar on a terminal, lines for a claim, and nothing of it in a file."""

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from dl_zoo import waiting
from dl_zoo.commands.reproduce import titles


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_bar_is_drawn_on_a_terminal_alone(kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    said = kind()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setitem(waiting.SHOWN, "delay", 0)
    monkeypatch.setitem(waiting.SHOWN, "leave", True)
    assert list(waiting.waiting([1, 2, 3], "predicting")) == [1, 2, 3]
    net = torch.nn.Linear(1, 1)
    with waiting.passes(net, "making", 2):
        net(net(torch.ones(1, 1)))
    net(torch.ones(1, 1))
    if kind is Terminal:
        assert "predicting: 100%" in said.getvalue()
        assert "3/3" in said.getvalue()
        assert "2/2" in said.getvalue()
    else:
        assert said.getvalue() == ""


def test_no_library_draws_a_bar_into_a_file() -> None:
    program = "import sys; sys.argv = ['dl-zoo', 'models', 'lenet5']\nfrom dl_zoo.__main__ import main\n"
    program += "try: main()\nexcept SystemExit: pass\nfrom tqdm.auto import tqdm\nlist(tqdm(range(3)))"
    environment = {key: value for key, value in os.environ.items() if key != "TQDM_DISABLE"}
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert said.stderr == ""
    assert "lenet5" in said.stdout
    assert "\x1b" not in said.stdout


def test_claims_say_how_long_all_that_are_left_will_take() -> None:
    def plan(id: str, seconds: float) -> SimpleNamespace:
        return SimpleNamespace(
            card=SimpleNamespace(id=id, content={"claim": "It is so."}), seconds_left=lambda: seconds
        )

    one, two = plan("c01_a", 30.0), plan("c02_b", 240.0)
    assert list(titles([one])) == ["c01_a: It is so. (about 30 s)"]  # type: ignore[list-item]
    assert list(titles([one, two])) == [  # type: ignore[list-item]
        "[1/2] c01_a: It is so. (about 4 minutes for all that are left)",
        "[2/2] c02_b: It is so. (about 4 minutes for all that are left)",
    ]
    assert list(titles([plan("c03_c", 0.0)])) == ["c03_c: It is so."]  # type: ignore[list-item]
