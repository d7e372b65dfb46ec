"""The short way through a batch gives what Lightning's long way gives, hook for hook and bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import assert_same, curves
from test_survival import FRAGILE

from dl_zoo import checkpoints, create_module, loop
from dl_zoo.compose import compose
from dl_zoo.run import run


def test_both_ways_leave_the_same_checkpoint_and_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    original = loop.EpochLoop._step
    monkeypatch.setattr(loop.EpochLoop, "_step", lambda *args: (steps.append(1), original(*args))[1])
    short = run(compose([*FRAGILE, "run_dir=short"])).folder
    assert len(steps) == 27
    monkeypatch.setattr(loop, "install", lambda trainer: trainer)
    long = run(compose([*FRAGILE, "run_dir=long"])).folder
    assert len(steps) == 27
    assert_same(*(checkpoints.read(f / "checkpoints" / "last.ckpt") for f in (short, long)))
    assert curves(short) == curves(long)


class Recorder(pl.Callback):
    def __init__(self) -> None:
        self.said: list[str] = []


for _name in loop.BY_CALLBACKS:
    setattr(Recorder, _name, lambda self, *args, _name=_name, **kwargs: self.said.append(_name))


def fit(install: bool, module: pl.LightningModule, **settings: Any) -> list[str]:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_steps=3, accelerator="cpu", callbacks=[recorder], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    items = [(torch.zeros(1, 32, 32), torch.tensor(0))] * 12
    trainer = loop.install(trainer) if install else trainer
    trainer.fit(module, torch.utils.data.DataLoader(items, batch_size=4))
    return recorder.said


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:You defined a `validation_step`")
def test_hooks_come_in_lightnings_order() -> None:
    assert fit(True, create_module("lenet5")) == fit(False, create_module("lenet5"))


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:You defined a `validation_step`")
def test_what_is_not_ordinary_goes_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("the short way")

    monkeypatch.setattr(loop.EpochLoop, "_step", never)
    for settings in ({"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}):
        fit(True, create_module("lenet5"), **settings)
    module = create_module("lenet5")
    own = type("Own", (type(module),), {"on_after_backward": lambda self: None})
    module.__class__ = own
    fit(True, module)
    with pytest.raises(AssertionError, match="the short way"):
        fit(True, create_module("lenet5"))
