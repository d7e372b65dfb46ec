"""Runs on a CUDA device: they learn, their data live there, and nothing else differs from runs on the processor."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same, assert_same_run, curves
from test_survival import FRAGILE

from dl_zoo import checkpoints, loop
from dl_zoo.callbacks.survival import Survival
from dl_zoo.commands.evaluate import evaluate
from dl_zoo.compose import compose
from dl_zoo.run import Result, run

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
DIGITS = ["model=lenet5", "data=digits", "trainer=cuda", "trainer.max_epochs=5", "data_dir=/nowhere"]
EXACT = [each.replace("trainer=cpu", "trainer=cuda") for each in FRAGILE] + ["trainer.deterministic=true"]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """`trainer.deterministic=true` is torch's for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


@dataclass
class Seen:
    result: Result
    data: Any = None
    places: set[str] = field(default_factory=set)  # kinds of device that batches, weights and sums were on


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """LeNet-5 after five epochs of digits, and where its tensors were meanwhile. Ordinary: not `deterministic`."""
    seen, original = Seen(None), Survival.on_train_batch_end  # type: ignore[arg-type]

    def look(self: Survival, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        original(self, trainer, module, outputs, batch, index)
        seen.data = trainer.datamodule
        seen.places |= {x.device.type for x in [*batch, *module.parameters(), *module._pending[2].values()]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Survival, "on_train_batch_end", look)
        seen.result = run(compose([*DIGITS, f"run_dir={tmp_path_factory.mktemp('trained') / 'run'}"]))
    return seen


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert run(compose([*EXACT, f"run_dir={folder}"])).status == "finished"
    return folder


# ---- learning --------------------------------------------------------------------------------------------------------


def test_it_learns(trained: Seen) -> None:
    assert trained.result.status == "finished"
    assert trained.result.metrics["val/acc"] > 0.9
    environment = json.loads((trained.result.folder / "environment.json").read_text())
    assert environment["device"] == torch.cuda.get_device_name()


def test_its_data_live_on_the_device(trained: Seen) -> None:
    assert trained.places == {"cuda"}
    assert set(trained.data.splits) == {"train", "val", "test"}
    assert all(tensor.is_cuda for split in trained.data.splits.values() for tensor in split)


@pytest.mark.filterwarnings("ignore:.*ynchronization debug mode is a prototype")
def test_a_step_between_two_logs_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as torch can tell: a loss that is read, a batch that is copied from the host, would each be an error."""
    watched, original = [], loop.EpochLoop.advance

    def advance(self: loop.EpochLoop, fetcher: Any) -> None:
        if self.global_step < 3:  # an epoch begins with its order, which is copied
            return original(self, fetcher)
        watched.append(self.global_step)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return original(self, fetcher)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop.EpochLoop, "advance", advance)
    settings = ["trainer.max_epochs=1", "trainer.log_every_n_steps=1000", "run_dir=run"]
    assert run(compose([*DIGITS[:3], *settings])).status == "finished"
    assert len(watched) > 20


# ---- its numbers again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "checkpoint"), [("test", "best"), ("val", "last")])
def test_evaluate_gives_the_numbers_of_training(trained: Seen, split: str, checkpoint: str) -> None:
    """To the last bit: the same kernels on the same batches, summed in the same order."""
    metrics, _ = evaluate(trained.result.folder, split, checkpoint)
    for name in ("loss", "acc", "error"):
        assert metrics[f"{split}/{name}"] == trained.result.metrics[f"{split}/{name}"], name


def test_the_processor_gives_nearly_the_same_numbers(trained: Seen) -> None:
    there, here = trained.result.metrics, evaluate(trained.result.folder, overrides={"trainer.accelerator": "cpu"})[0]
    assert here["test/loss"] == pytest.approx(there["test/loss"], rel=0, abs=1e-4)
    assert here["test/acc"] == pytest.approx(there["test/acc"], rel=0, abs=1 / 360 + 1e-9)  # one picture on the edge


def test_it_is_evaluated_where_there_is_no_cuda(trained: Seen) -> None:
    folder = trained.result.folder
    command = [sys.executable, "-m", "dl_zoo", "evaluate", str(folder)]
    without = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=without)
    assert said.returncode == 0, said.stderr
    here = json.loads((folder / "evaluation-test.json").read_text())
    assert here["test/loss"] == pytest.approx(trained.result.metrics["test/loss"], rel=0, abs=1e-4)


# ---- survival --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [5, 12, 13])  # in the first epoch, within and at the end of a window of four steps
def test_interrupted_and_continued_equals_never_stopped(
    step: int, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: weights, optimizer, schedule, random states (dropout draws on the device), sums and curves."""
    original = Survival.on_train_batch_end

    def ask(self: Survival, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, trainer, *rest)

    folder = tmp_path / "asked"
    with monkeypatch.context() as patch:
        patch.setattr(Survival, "on_train_batch_end", ask)
        result = run(compose([*EXACT, f"run_dir={folder}"]))
    assert (result.status, result.signal) == ("interrupted", signal.SIGINT)
    assert checkpoints.read(folder / "checkpoints" / "last.ckpt")["global_step"] == step
    assert run(compose([*EXACT, f"run_dir={folder}", "resume=auto"])).status == "finished"
    assert_same_run(uninterrupted, folder)


def test_divergence_is_named() -> None:
    wild = [*DIGITS, "data.batch_size=128", "optimizer=sgd", "optimizer.lr=1e20", "trainer.log_every_n_steps=3"]
    result = run(compose([*wild, "run_dir=wild"]))
    assert result.status == "diverged"
    assert "the loss is not finite at step 2 (epoch 1, batch 2)" in result.reason


# ---- the loop --------------------------------------------------------------------------------------------------------


def test_both_ways_through_a_batch_leave_the_same(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, original = [], loop.EpochLoop._step
    monkeypatch.setattr(loop.EpochLoop, "_step", lambda *args: (steps.append(1), original(*args))[1])
    short = run(compose([*EXACT, "run_dir=short"])).folder
    assert len(steps) == 27
    assert_same_run(uninterrupted, short)
    monkeypatch.setattr(loop, "install", lambda trainer: trainer)
    long = run(compose([*EXACT, "run_dir=long"])).folder
    assert len(steps) == 27
    assert_same(*(checkpoints.read(f / "checkpoints" / "last.ckpt") for f in (short, long)))
    assert curves(short) == curves(long)
