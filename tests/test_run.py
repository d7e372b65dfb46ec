"""A run from its first word to its last, its folder, its evaluation, sweeps, ranks, and models from outside."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import SMALL, Said, one_line
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dl_zoo
import dl_zoo.trust
from dl_zoo import checkpoints, options
from dl_zoo.commands.evaluate import evaluate
from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.run import Result, run

CONTENTS = {"config.yaml", "environment.json", "metrics.json", "checkpoints", "train.log"}


def contents(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.startswith("events.out.tfevents")}


def test_the_run_folder_is_complete_and_holds_nothing_else(finished: Result) -> None:
    assert contents(finished.folder) == CONTENTS
    assert len(list(finished.folder.glob("events.out.tfevents*"))) == 1
    assert {p.name for p in (finished.folder / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert metrics == finished.metrics
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc", "test/error"} <= set(metrics)
    assert metrics["test/acc"] + metrics["test/error"] == pytest.approx(1)
    assert "${" not in (finished.folder / "config.yaml").read_text()


def test_the_plan_and_the_closing_words_are_kept(finished: Result) -> None:
    log = (finished.folder / "train.log").read_text()
    for words in ("61,706 trainable", "6 x 28 x 28", "1,077 train, 360 val, 360 test", "cpu", "epoch 2/2", "test/acc"):
        assert words in log
    assert f"dl-zoo evaluate {finished.folder}" in log
    assert "tensorboard --logdir" in log


def test_tensorboard_holds_curves_pictures_and_hyper_parameters(finished: Result) -> None:
    events = EventAccumulator(str(finished.folder)).Reload()
    tags = events.Tags()
    assert {"train/loss", "train/acc", "train/lr", "val/loss", "val/acc", "test/loss", "test/acc"} <= set(
        tags["scalars"]
    )
    assert {"filters/c1", "confusion/val", "confusion/test", "samples/test_mistakes"} <= set(tags["images"])
    assert [e.step for e in events.Scalars("train/loss")] == [4, 8, 9, 13, 17, 18]  # windows of 4, cut at epochs' ends
    assert "_hparams_/session_start_info" in events.summary_metadata
    last = [e.value for e in events.Scalars("val/acc")][-1]
    assert last == pytest.approx(finished.metrics["val/acc"])


def test_evaluation_needs_only_the_folder_and_gives_trainings_numbers_exactly(
    finished: Result, tmp_path: Path, cli: Callable[..., Said]
) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(finished.folder, moved)
    for path in (str(moved), f"ckpt_path={moved / 'checkpoints' / 'best.ckpt'}"):
        assert cli("evaluate", path).code == 0
        found = json.loads((moved / "evaluation-test.json").read_text())
        for name in ("test/loss", "test/acc", "test/error"):
            assert found[name] == finished.metrics[name]
    with (moved / "predictions-test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 360
    right = sum(row["target"] == row["prediction"] for row in rows)
    assert right / 360 == pytest.approx(finished.metrics["test/acc"])


def test_evaluation_of_other_splits_and_checkpoints(finished: Result, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished.folder, moved)
    metrics, files = evaluate(moved, "val", "last")
    assert metrics["val/acc"] == finished.metrics["val/acc"]
    assert [f.name for f in files] == ["evaluation-val.json", "predictions-val.csv", "classes-val.csv"]
    metrics, files = evaluate(moved, "train", overrides={"data.batch_size": 7})
    assert len(files[1].read_text().splitlines()) == 1 + 1077
    with pytest.raises(UserError, match="no such key"):
        evaluate(moved, overrides={"data.batchsize": 7})


def test_a_finished_run_that_is_resumed_prints_its_metrics(
    finished: Result, tmp_path: Path, cli: Callable[..., Said]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished.folder, moved)
    before = {p: p.stat().st_mtime_ns for p in moved.rglob("*")}
    said = cli("train", f"resume={moved}")
    assert said.code == 0
    assert f"{finished.metrics['test/acc']:.4f}" in said.err
    assert before == {p: p.stat().st_mtime_ns for p in moved.rglob("*")}


def test_a_finished_run_can_be_given_more_epochs(finished: Result, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished.folder, moved)
    from dl_zoo.commands.train import configuration

    longer = run(configuration([f"resume={moved}", "trainer.max_epochs=3"], []))
    straight = run(compose([*SMALL, "trainer.max_epochs=3", "run_dir=straight"]))
    a, b = (checkpoints.read(r.folder / "checkpoints" / "last.ckpt")["state_dict"] for r in (longer, straight))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert longer.metrics["epoch"] == 3


def test_folders_are_chosen_and_refused(finished: Result, tmp_path: Path, cli: Callable[..., Said]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    assert "a file is in the way" in one_line(cli("train", "run_dir=file/run"))
    assert "not a run folder" in one_line(cli("train", "run_dir=full"))
    assert "continue it with resume=auto" in one_line(cli("train", f"run_dir={finished.folder}"))
    assert "model._target_" in one_line(cli("train", f"run_dir={finished.folder}", "resume=auto", "model=mlp"))
    said = one_line(cli("train", f"resume={finished.folder}", "optimizer.lr=0.5", "trainer.max_epochs=3"))
    assert "another optimizer.lr" in said


def test_resume_auto_starts_anew_when_there_is_nothing_to_continue() -> None:
    smoke = ["trainer=smoke", "pictures=false", "resume=auto"]
    first = run(compose(smoke))
    assert first.folder.parent == Path("runs/lenet5-digits")
    (first.folder / "metrics.json").unlink()
    assert run(compose(smoke)).folder == first.folder
    assert run(compose(smoke)).folder != first.folder  # finished by now
    assert run(compose([*smoke, "seed=1"])).folder != first.folder


def test_starting_from_another_runs_weights(finished: Result, tmp_path: Path) -> None:
    cfg = [
        *SMALL,
        "pictures=false",
        f"weights={finished.folder}",
        "freeze=[c*]",
        "trainer.max_epochs=1",
        "run_dir=a",
    ]
    result = run(compose(cfg))
    report = json.loads((tmp_path / "a" / "weights.json").read_text())
    assert report["percent"] == 100
    assert len(report["matched"]) == 10
    old, new = (checkpoints.net_state(checkpoints.read(checkpoints.find(f))) for f in (finished.folder, result.folder))
    assert torch.equal(old["c3.weight"], new["c3.weight"])  # frozen
    assert not torch.equal(old["f6.weight"], new["f6.weight"])
    assert result.metrics["val/acc"] > finished.metrics["val/acc"]
    with pytest.raises(UserError, match="no parameter has such a name"):
        run(compose([*SMALL, "freeze=[conv*]", "run_dir=b"]))


def test_weights_of_strangers_load_with_a_report(finished: Result, tmp_path: Path) -> None:
    net = dl_zoo.create_model("lenet5", num_classes=7)
    state = {f"module.{key.replace('output', 'head')}": value for key, value in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "theirs.pth")
    target = dl_zoo.create_model("lenet5")
    report = checkpoints.load_weights(target, tmp_path / "theirs.pth", {"head": "output"})
    assert report.replaced == ["output.bias", "output.weight"]
    assert report.renamed == {"head.weight": "output.weight", "head.bias": "output.bias"}
    assert torch.equal(target.state_dict()["f6.weight"], net.state_dict()["f6.weight"])
    report = checkpoints.load_weights(target, tmp_path / "theirs.pth")  # for other classes, by another name
    assert (report.replaced, report.dropped) == (["output.bias", "output.weight"], ["head.bias", "head.weight"])
    state["module.f7.weight"] = torch.zeros(2)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "theirs.pth")
    with pytest.raises(UserError, match=r"unexpected: head, f7|unexpected: f7, head"):
        checkpoints.load_weights(target, tmp_path / "theirs.pth")


def test_two_ranks_share_one_folder_and_train_like_one(tmp_path: Path) -> None:
    settings = [*SMALL, "trainer.max_epochs=1", "pictures=false", "data.batch_size=100", "optimizer=momentum"]
    settings += ["trainer.limit_train_batches=10"]  # full batches: a last one of 77 does not divide
    alone = run(compose([*settings, "run_dir=alone"]))
    command = [
        sys.executable,
        "-m",
        "dl_zoo",
        "train",
        *settings,
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "run_dir=two",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert said.returncode == 0, said.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"alone", "two"}
    assert contents(tmp_path / "two") == CONTENTS
    a, b = (checkpoints.read(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("alone", "two"))
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5)
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["test/acc"] == pytest.approx(alone.metrics["test/acc"], abs=2 / 360)


MINE = '''"""A linear classifier."""

from torch import Tensor, nn


class Linear(nn.Module):
    def __init__(self, in_features: int = 784, num_classes: int = 10):
        super().__init__()
        self.layer = nn.Linear(in_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))
'''
MINE_YAML = """defaults:
  - override /task@_global_.task: classification
  - _self_
card: {paper: Fisher 1936, year: 1936, parameters: 7850, task: classification, dims: {features: 784, num_classes: 10}}
_target_: my_models.Linear
in_features: ${dims.features}
num_classes: ${dims.num_classes}
"""


def test_a_model_of_ones_own_is_one_py_and_one_yaml_outside_the_package(
    tmp_path: Path, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dl_zoo.trust, "_trusted_modules", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_models.py").write_text(MINE)
    (tmp_path / "my_configs" / "model").mkdir(parents=True)
    (tmp_path / "my_configs" / "model" / "linear.yaml").write_text(MINE_YAML)
    base = ["train", "--config-dir", "./my_configs", "model=linear", "trainer.max_epochs=5", "run_dir=run"]
    assert "--trust" in one_line(cli(*base))
    assert cli(*base, "--trust", "my_models").code == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/acc"] > 0.85
    monkeypatch.setattr(dl_zoo.trust, "_trusted_modules", set())  # another process, another day
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    monkeypatch.delitem(sys.modules, "my_models")
    assert "not trusted" in one_line(cli("evaluate", "run"))
    assert cli("evaluate", "run", "--trust", "my_models").code == 0


@pytest.mark.parametrize("debug", ["overfit", "fast", "profile"])
def test_debug_modes_run(debug: str) -> None:
    overrides = ["trainer.max_epochs=60"] if debug == "overfit" else ["trainer.max_epochs=1"]
    result = run(compose([f"debug={debug}", *overrides, "run_dir=run", "logger=none"]))
    assert result.status == "finished"
    if debug == "overfit":
        assert result.metrics["train/loss"] < 0.05


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("name", [name for name in dl_zoo.list_models() if 0 < options.card(name)["parameters"] < 3e5])
def test_every_module_takes_a_step_in_a_bare_trainer(name: str, tmp_path: Path) -> None:
    module = dl_zoo.create_module(name, optimizer="sgd")
    assert isinstance(module, pl.LightningModule)
    dims = dl_zoo.zoo.model_card(name)["dims"]
    size = dims.get("image_size", 32)
    size = math.isqrt(dims["features"] // dims["channels"]) if {"features", "channels"} <= dims.keys() else size
    shape = (dims["channels"], size, size) if "channels" in dims else (dims.get("features", 5),)
    items = [(torch.randn(shape), torch.tensor(i % dims.get("num_classes", 2))) for i in range(8)]
    if "samples" in dims:
        items = [(torch.randn(1, dims["samples"]), torch.tensor(i % dims["num_classes"])) for i in range(8)]
    if "copies" in dims:  # two numbers in, one out, each
        items = [(torch.randn(dims["copies"], 2), torch.randn(dims["copies"])) for _ in range(8)]
    if "horizon" in dims:  # some steps, and those that follow
        steps = (dims["context"], dims["input_size"]), (dims["horizon"], dims["num_targets"])
        items = [tuple(map(torch.randn, steps)) for _ in range(8)]
    elif "input_size" in dims:  # a number for each sequence
        items = [(torch.randn(5, dims["input_size"]), torch.randn(dims["num_targets"])) for _ in range(8)]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(items, batch_size=8)
    trainer.fit(module, loader, loader)
    assert any(not torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_the_python_interface(finished: Result, capsys: pytest.CaptureFixture[str]) -> None:
    assert dl_zoo.list_models("lenet*") == ["lenet5", "lenet5_1998"]
    assert dl_zoo.create_model("lenet", num_classes=7)(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    with torch.device("meta"):
        assert dl_zoo.create_model("lenet5").f6.weight.is_meta
        assert next(dl_zoo.create_module("lenet5").parameters()).is_meta
    with pytest.raises(UserError, match="did you mean lenet5"):
        dl_zoo.create_model("lenett5")
    with pytest.raises(UserError, match="did you mean num_classes"):
        dl_zoo.create_model("lenet5", num_clases=7)
    loaded = dl_zoo.load_run(finished.folder)
    again = dl_zoo.create_model("lenet5", weights=finished.folder)
    assert "100.0 %" in capsys.readouterr().out
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(loaded.net.eval()(x), again.eval()(x))
    assert loaded.config.name == "lenet5-digits"
    assert loaded.step in (9, 18)


def test_l2_shrinks_the_weights() -> None:
    def weight(name: str, *extra: str) -> float:
        run(compose([*SMALL, "pictures=false", "optimizer=sgd", f"run_dir={name}", *extra]))
        net = checkpoints.net_state(checkpoints.read(checkpoints.find(name, "last")))
        return sum(float(v.square().sum()) for v in net.values() if v.dim() > 1)

    assert weight("shrunk", "regularizer=l2", "regularizer.l2.strength=0.1") < 0.8 * weight("plain")
