"""`trainer.precision=auto`: bfloat16 where the device multiplies it natively; the run says what was used."""

import json
from pathlib import Path

import pytest
import torch

from dl_zoo import precision
from dl_zoo.compose import compose
from dl_zoo.run import run

SMALL = ["model=gpt_char", "model.width=16", "model.depth=1", "model.heads=2", "data.context=16", "trainer=smoke"]


@pytest.mark.parametrize(
    ("asked", "cpu", "cuda", "mps", "accelerator", "said"),
    [
        ("auto", True, None, False, "auto", "bf16-mixed"),
        ("auto", False, None, False, "auto", "32-true"),
        ("auto", True, None, True, "auto", "32-true"),  # the run is on another device than the processor
        ("auto", True, None, True, "cpu", "bf16-mixed"),
        ("auto", False, True, False, "auto", "bf16-mixed"),
        ("auto", True, False, False, "auto", "32-true"),
        ("auto", False, True, False, "cpu", "32-true"),
        ("16-mixed", True, True, False, "auto", "16-mixed"),
    ],
)
def test_bfloat16_where_it_is_native(
    asked: str, cpu: bool, cuda: bool | None, mps: bool, accelerator: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cuda`: does the device there multiply it; None: there is none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(precision, "processor_multiplies_bfloat16", lambda: cpu)
    assert precision.chosen(asked, accelerator) == said


@pytest.mark.parametrize("native", [True, False])
def test_a_run_says_what_it_chose_and_goes_on(native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor_multiplies_bfloat16", lambda: native)
    words = [*SMALL, "trainer.accelerator=cpu", "trainer.precision=auto", "logger=none", "pictures=false"]
    words += [f"run_dir={tmp_path / 'run'}", "resume=auto"]
    result = run(compose(words), quiet=True)
    said = json.loads((result.folder / "environment.json").read_text())["precision"]
    assert said == ("bf16-mixed" if native else "32-true")
    monkeypatch.setattr(precision, "processor_multiplies_bfloat16", lambda: not native)  # another machine
    before = (result.folder / "environment.json").read_text()
    longer = run(compose([*words, "trainer.max_epochs=2"]), quiet=True)
    assert longer.metrics["step"] == 2 * result.metrics["step"]
    assert json.loads((result.folder / "environment.json").read_text())["precision"] == said
    assert "continuing after step" in (result.folder / "train.log").read_text()
    assert said in before


def test_half_precision_stopped_and_continued_equals_never_stopped(tmp_path: Path) -> None:
    """To the bit; the stop is at an epoch's end."""
    words = [*SMALL, "trainer.accelerator=cpu", "trainer.precision=bf16-mixed", "logger=none", "pictures=false"]
    words += ["scheduler=none", "resume=auto"]
    whole = run(compose([*words, "trainer.max_epochs=2", f"run_dir={tmp_path / 'whole'}"]), quiet=True)
    for epochs in (1, 2):
        parts = run(compose([*words, f"trainer.max_epochs={epochs}", f"run_dir={tmp_path / 'parts'}"]), quiet=True)
    assert parts.metrics == whole.metrics
