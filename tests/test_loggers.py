"""The table and W&B hold what TensorBoard holds, and neither a kill nor a continuation breaks the table."""

import csv
import json
import math
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from hydra.utils import get_class
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from dl_zoo import create_module
from dl_zoo.callbacks import csv_logger
from dl_zoo.callbacks.csv_logger import CSV
from dl_zoo.callbacks.pictures import Pictures
from dl_zoo.callbacks.tensorboard import TensorBoard, flatten
from dl_zoo.callbacks.wandb_logger import WandB
from dl_zoo.compose import compose
from dl_zoo.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs" / "logger"
SETTINGS = {"seed": 3, "model": {"_target_": "zoo.LeNet5", "act": "tanh"}, "pictures": True}
COMPARED = {"seed": 3, "model": "LeNet5", "model.act": "tanh"}
quietly = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # the loader is no subject here


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """tag -> (step, value), in the order of the columns."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tags = [tag for tag in rows[0] if tag != "step"]
    return {tag: [(int(row["step"]), float(row[tag])) for row in rows if row[tag]] for tag in tags}


def fit(folder: Path, *loggers: Any, epochs: int = 2) -> pl.Trainer:
    """LeNet-5 on noise, 5 steps an epoch, then the test, as a run does it; the final metrics with one of its own."""
    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.rand(40, 1, 32, 32), torch.randint(10, (40,))), batch_size=8)
    trainer = pl.Trainer(
        max_epochs=epochs, logger=list(loggers), callbacks=[Pictures()], log_every_n_steps=2, accelerator="cpu",
        default_root_dir=folder, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = create_module("lenet5")
    trainer.fit(module, data, data)
    trainer.test(module, data, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for logger in loggers:
        logger.log_final(SETTINGS, metrics | {"test/own": 0.25})
        logger.close()
        logger.close()  # the run's `finally` may come second
    return trainer


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_logger_takes_what_the_run_says_to_it(file: Path) -> None:
    node = yaml.safe_load(file.read_text())
    if node:
        assert node["_partial_"] is True
        for method in ("log_final", "close"):
            assert callable(getattr(get_class(node["_target_"]), method))


# ---- the table


@quietly
def test_the_table_holds_what_tensorboard_holds(tmp_path: Path) -> None:
    fit(tmp_path, TensorBoard(tmp_path), CSV(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    table = curves(tmp_path)
    assert {tag: [(step, float(np.float32(value))) for step, value in row] for tag, row in table.items()} == scalars
    assert [step for step, _ in table["train/loss"]] == [2, 4, 5, 7, 9, 10]
    assert [step for step, _ in table["val/acc"]] == [5, 10]
    assert table["test/own"] == [(10, 0.25)]
    assert len(events.PluginTagToContent("hparams")) == 2  # TensorBoard's `log_final` filled its table of runs
    assert dict(flatten(SETTINGS)) == COMPARED
    assert sorted(p.name for p in tmp_path.iterdir())[1:] == ["metrics.csv"]  # after the event file


def test_values_come_back_to_the_bit_in_one_row_a_step(tmp_path: Path) -> None:
    logger = CSV(tmp_path)
    logger.log_metrics({"train/loss": 0.1 + 0.2, "train/lr": 1e-7}, 4)
    logger.log_metrics({"val/loss": math.pi, "a, b": math.inf}, 4)
    logger.log_metrics({"train/loss": torch.tensor(1.5), "new": math.nan}, 8)  # type: ignore[dict-item]
    logger.log_metrics({"train/lr": 2}, 8)
    logger.finalize("success")
    text = (tmp_path / "metrics.csv").read_text()
    assert text == (
        'step,train/loss,train/lr,val/loss,"a, b",new\n'
        "4,0.30000000000000004,1e-07,3.141592653589793,inf,\n"
        "8,1.5,2.0,,,nan\n"
    )
    again = CSV(tmp_path, purge_step=9)
    assert csv_logger.table(again.rows) == text
    assert again.rows[4] == logger.rows[4]


def test_final_metrics_fill_gaps_only(tmp_path: Path) -> None:
    logger = CSV(tmp_path)
    logger.log_metrics({"val/acc": 0.5}, 3)
    logger.log_metrics({"train/loss": 1.0}, 7)
    logger.log_final(SETTINGS, {"val/acc": 0.6, "test/acc": 0.7})
    assert curves(tmp_path) == {"val/acc": [(3, 0.5)], "train/loss": [(7, 1.0)], "test/acc": [(7, 0.7)]}


def log_steps(logger: CSV, *steps: int) -> None:
    for step in steps:
        logger.log_metrics({"train/loss": 1 / step}, step)
        if step % 3 == 0:
            logger.log_metrics({"val/acc": step / 10}, step)


def die(*_: Any) -> None:
    os._exit(9)


def die_halfway(file: int) -> None:
    os.truncate(file, os.fstat(file).st_size // 2)
    die()


def in_a_process(work: Callable[[], None]) -> int:
    """The exit code of a child that does the work. A fork, since importing Lightning anew takes seconds."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)  # it must not go on with the tests
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # the child only writes a file
@pytest.mark.parametrize(
    ("where", "name", "way"),
    [(os, "fsync", die_halfway), (os, "fsync", die), (Path, "replace", die)],
    ids=["half written", "not on the disk", "not renamed"],
)
def test_killed_while_writing_and_continued_equals_never_stopped(
    tmp_path: Path, where: Any, name: str, way: Callable[..., None]
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"

    def killed() -> None:
        logger = CSV(folder)
        log_steps(logger, 1, 2, 3, 4)
        logger.save()  # with the checkpoint of step 4
        log_steps(logger, 5, 6)
        logger.save()
        log_steps(logger, 7)
        setattr(where, name, way)
        logger.save()

    for each in (whole, folder):
        each.mkdir()
    logger = CSV(whole)
    log_steps(logger, *range(1, 10))
    logger.close()
    assert in_a_process(killed) == 9
    assert (folder / ".metrics.csv.writing").exists()
    assert [step for step, _ in curves(folder)["train/loss"]] == [1, 2, 3, 4, 5, 6]

    logger = CSV(folder, purge_step=5)
    log_steps(logger, *range(5, 10))
    logger.close()
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert [path.name for path in folder.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize(("purge_step", "kept"), [(None, []), (0, []), (3, [1, 2]), (100, [1, 2, 3, 4])])
def test_a_continued_table_keeps_the_steps_before_and_no_empty_column(
    tmp_path: Path, purge_step: int | None, kept: list[int]
) -> None:
    logger = CSV(tmp_path)
    log_steps(logger, 1, 2, 3, 4)
    logger.close()
    before = (tmp_path / "metrics.csv").read_bytes()
    logger = CSV(tmp_path, purge_step)
    logger.close()
    assert (tmp_path / "metrics.csv").read_bytes() == before  # nothing new: whatever stops the run now, it is all there
    logger.log_metrics({"train/loss": 0.5}, 200)
    logger.close()
    assert [step for step, _ in curves(tmp_path)["train/loss"]] == [*kept, 200]
    assert ("val/acc" in curves(tmp_path)) == (3 in kept)


def test_a_run_without_a_table_is_continued_with_one(tmp_path: Path) -> None:
    assert CSV(tmp_path, purge_step=5).rows == {}


@pytest.mark.parametrize(
    "text",
    [
        "step;train/loss\n4;0,25\n",  # a spreadsheet's
        "step,train/loss\n4,high\n",
        "step,train/loss\n4,0.25,1\n",
        "step,train/loss\n,0.25\n",
        "train/loss\n0.25\n",
        'step,"train/loss\n4,0.25\n',
        "step,\xff\n4,0.25\n",
    ],
)
def test_a_table_that_no_run_wrote_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'metrics.csv'} is not as the run wrote it; move it")):
        CSV(tmp_path, purge_step=9)
    assert (tmp_path / "metrics.csv").read_bytes() == text.encode("latin-1")


def test_it_saves_every_few_seconds_and_a_long_table_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(csv_logger, "monotonic", lambda: now[0])
    original = csv_logger.write_text

    def slow(path: Path, text: str) -> None:
        original(path, text)
        now[0] += 0.2

    monkeypatch.setattr(csv_logger, "write_text", slow)
    logger, written = CSV(tmp_path), []
    for second in range(60):
        now[0] = max(now[0], 100.0 + second)
        before = (tmp_path / "metrics.csv").exists() and (tmp_path / "metrics.csv").read_bytes()
        logger.log_metrics({"train/loss": 0.5}, second)
        if (tmp_path / "metrics.csv").exists() and (tmp_path / "metrics.csv").read_bytes() != before:
            written.append(second)
    assert written == [5, 26, 47]  # 0.2 s of writing are 1 % of 20 s


def test_only_rank_zero_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    for logger in (CSV(tmp_path), TensorBoard(tmp_path)):
        logger.log_metrics({"train/loss": 0.5}, 1)
        logger.log_final(SETTINGS, {"test/acc": 0.5})
        logger.finalize("success")
        logger.close()
    assert not list(tmp_path.iterdir())


def test_closing_a_logger_that_was_never_used_leaves_nothing(tmp_path: Path) -> None:
    for logger in (CSV(tmp_path), TensorBoard(tmp_path)):
        logger.close()
    assert not list(tmp_path.iterdir())


# ---- Weights & Biases


@quietly
@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")
def test_an_offline_run_holds_what_tensorboard_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tmp_path / "run"
    folder.mkdir()
    fit(tmp_path, TensorBoard(tmp_path), WandB(folder, mode="offline", project="dl_zoo", name="mine"))
    (first,) = folder.glob("wandb/offline-run-*/*.wandb")
    events = EventAccumulator(str(tmp_path)).Reload()
    (run,), config, summary, history, (end,) = contents(first)
    assert (run.run_id, run.project, run.display_name) == ((folder / "wandb-id").read_text().strip(), "dl_zoo", "mine")
    for tag in set(events.Tags()["scalars"]) - {"test/own"}:
        ours = [(row["trainer/global_step"], np.float32(row[tag])) for row in history if tag in row]
        assert ours == [(e.step, np.float32(e.value)) for e in events.Scalars(tag)]
    assert config[-1] == COMPARED
    assert summary[-2]["test/own"] == 0.25  # the last one is W&B's clock
    assert end.exit_code == 0

    moved = folder.rename(tmp_path / "elsewhere")
    logger = WandB(moved, purge_step=6, mode="offline", project="dl_zoo")
    logger.log_metrics({"train/loss": 0.5}, 6)
    logger.finalize("failed")
    logger.close()
    second = max(moved.glob("wandb/offline-run-*/*.wandb"))
    (again,), _, _, history, (end,) = contents(second)
    assert (again.run_id, end.exit_code) == (run.run_id, 1)
    assert [row["trainer/global_step"] for row in history] == [6]


def contents(file: Path) -> list[Any]:
    """The run's own record, then config, summary and history as dicts, then how it ended."""
    kinds: dict[str, list[Any]] = {kind: [] for kind in ("run", "config", "summary", "history", "exit")}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        value = getattr(record, kind)
        if kind in ("config", "summary", "history"):
            items = value.item if kind == "history" else value.update
            value = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
        kinds.setdefault(kind, []).append(value)
    return [kinds[kind] for kind in ("run", "config", "summary", "history", "exit")]


def records(file: Path) -> Iterator[Any]:
    """LevelDB's log format after a header of 7 bytes: blocks of 32 KiB, each piece with checksum, length and type."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, record = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := -place % 32768) < 7 and left:  # no room for another head
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            yield Record.FromString(record)
            record = b""


def test_what_wandb_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("HOME", "NETRC"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    logger = WandB(tmp_path, mode="online")
    with pytest.raises(UserError, match=r"^logger=wandb: .*wandb login.*; without its server: logger.mode=offline$"):
        logger.log_metrics({"train/loss": 0.5}, 1)
    logger.close()
    for wrong in ({"project": "a/b"}, {"project": 5}, {"projct": "mine"}):
        logger = WandB(tmp_path, mode="offline", **wrong)
        with pytest.raises(UserError, match=r"^logger=wandb: (?!.*logger.mode)") as caught:
            logger.log_metrics({"train/loss": 0.5}, 1)
        assert len(caught.value.lines) == 1


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError) as caught:
        WandB(tmp_path)
    assert caught.value.args == ("logger=wandb needs a package that is not installed: pip install 'dl-zoo[wandb]'",)
    assert not list(tmp_path.iterdir())


def test_an_unknown_mode_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^logger.mode=ofline: must be online, offline or disabled$"):
        WandB(tmp_path, mode="ofline")


def test_the_mode_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    node = compose(["logger=wandb", "name=mine"]).logger
    assert (node.mode, node.name, node.project) == ("online", "mine", "dl_zoo")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert compose(["logger=wandb"]).logger.mode == "offline"
    assert compose(["logger=wandb", "logger.mode=online"]).logger.mode == "online"
