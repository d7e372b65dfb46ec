"""Shared by all tests: a clean working folder each, the command line in process, and one small finished run."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dl_zoo import checkpoints
from dl_zoo.claims import provenance
from dl_zoo.compose import compose
from dl_zoo.options import card, read
from dl_zoo.run import Result, run

if "PYTEST_XDIST_WORKER" in os.environ:  # several tests at once: a thread each, also for the processes they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

SMALL = ["model=lenet5", "data.batch_size=128", "trainer=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=4"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test runs in a folder of its own, and leaves signal handlers as they were."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`cli("train", "model=mlp")`: what `dl-zoo train model=mlp` prints and its exit code, in this process."""
    from dl_zoo.__main__ import main

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["dl-zoo", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Said(code, *capsys.readouterr())

    return call


def net_for(data: str) -> list[str]:  # noqa: PLR0911
    """A model that takes these data, and its task where that is not its own."""
    dims, targets = read("data", data)["dims"], card(data, "data")["targets"]
    if targets == "nothing":
        return ["model=ddpm_points"]
    if "word_length" in dims:
        return ["model=bilstm_tagger"]
    if "vocab_size" in dims:
        by_targets = {"symbols": "gpt_char", "sentences": "transformer_small", "class": "bert_small"}
        return [f"model={by_targets[targets]}"]
    if "horizon" in dims:
        return ["model=forecaster_gru"]
    if targets == "values" and "features" in dims:
        return ["model=mlp", "task=regression"]
    if "input_size" in dims:
        return ["model=gru", *(["task=sequence_classification"] if targets == "class" else [])]
    return ["model=mlp"]


def trained(*overrides: str) -> Result:
    """A small run that draws and logs nothing, in a folder of its own."""
    return run(compose([*SMALL, "pictures=false", "logger=none", *overrides]))


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal to the bit, at any depth."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    else:
        assert a == b, where


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, optimizer, schedule, loops, random states, the broken epoch's sums, and the curves."""
    for name in ("last", "best"):
        one, other = (checkpoints.read(folder / "checkpoints" / f"{name}.ckpt") for folder in (a, b))
        for checkpoint in (one, other):
            del checkpoint["dl_zoo"]["config"]["checkpoint_every"]  # how often may differ; what is saved may not
        assert_same(one, other, name)
    assert curves(a) == curves(b)
    assert (a / "metrics.json").read_text() == (b / "metrics.json").read_text()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """LeNet-5 after two epochs of digits. Read it, copy it, but do not change it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    before = Path.cwd()
    os.chdir(folder.parent)
    try:
        return run(compose([*SMALL, f"run_dir={folder}"]))
    finally:
        os.chdir(before)


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the clone itself, where results/ is, and as if on the torch that constraints.txt names."""
    root = Path(__file__).parents[1]
    pinned = (root / "constraints.txt").read_text(encoding="utf-8").split("torch==")[1].split()[0]
    monkeypatch.setattr(provenance, "torch_minor", lambda: ".".join(pinned.split(".")[:2]))
    monkeypatch.chdir(root)
    return root


def one_line(said: Said) -> str:
    """The error a user sees: exit code 2, one line, no traceback."""
    assert said.code == 2, said
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("dl-zoo: "), said.err
    return lines[0]
