"""No run is ever lost: kills, damage, signals, divergence, a full disk and a second process."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, assert_same_run
from filelock import FileLock

from dl_zoo import checkpoints
from dl_zoo.callbacks.survival import Survival
from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.run import run
from dl_zoo.tasks.task import Task

STEPS = 9  # an epoch of 1,077 digits in batches of 128
FRAGILE = [  # dropout and shifts draw at random; a checkpoint after every batch, so that kills meet many
    "model=lenet5", "model.dropout=0.3", "regularizer=shift", "optimizer=momentum", "scheduler=onecycle",
    "data.batch_size=128", "trainer=cpu", "trainer.max_epochs=3", "trainer.log_every_n_steps=4", "pictures=false",
    "data_dir=/nowhere",
]  # fmt: skip


def killed(moment: str, folder: Path, *overrides: str) -> int:
    script = Path(__file__).with_name("killed.py")
    command = [sys.executable, str(script), moment, *FRAGILE, f"run_dir={folder}", "resume=auto", *overrides]
    return subprocess.run(command, capture_output=True, timeout=200, check=False).returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert run(compose([*FRAGILE, f"run_dir={folder}"])).status == "finished"
    return folder


def test_killed_twice_and_continued_equals_never_stopped(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    assert killed("step:5", folder, "checkpoint_every=0") == -signal.SIGKILL  # mid-epoch
    assert killed("saving:8", folder, "checkpoint_every=0") == -signal.SIGKILL  # half a checkpoint on the disk
    assert list((folder / "checkpoints").glob(".*writing"))
    last = folder / "checkpoints" / "last.ckpt"
    assert checkpoints.read(last)["global_step"] == 11
    result = run(compose([*FRAGILE, f"run_dir={folder}", "resume=auto"]))
    assert result.status == "finished"
    assert_same_run(uninterrupted, folder)
    assert not list((folder / "checkpoints").glob(".*writing"))


def test_the_same_seed_gives_the_same_weights_and_another_one_others(uninterrupted: Path, tmp_path: Path) -> None:
    again = run(compose([*FRAGILE, f"run_dir={tmp_path / 'again'}"])).folder
    assert_same_run(uninterrupted, again)
    other = run(compose([*FRAGILE, f"run_dir={tmp_path / 'other'}", "seed=1", "trainer.max_epochs=1"])).folder
    a, b = (checkpoints.read(f / "checkpoints" / "last.ckpt")["state_dict"] for f in (uninterrupted, other))
    assert not torch.equal(a["net.output.weight"], b["net.output.weight"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_twenty_random_moments(uninterrupted: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    last = 3 * STEPS
    moments = [f"step:{draw.randint(1, last)}" for _ in range(12)]
    moments += [f"saving:{draw.randint(1, last)}" for _ in range(5)]
    moments += [f"renaming:{draw.randint(1, last)}" for _ in range(2)] + ["best:1"]
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        every = draw.choice([0, 60]) if moment.startswith("step") else 0  # after each batch, or at epochs' ends alone
        assert killed(moment, folder, f"checkpoint_every={every}") == -signal.SIGKILL, moment
        assert run(compose([*FRAGILE, f"run_dir={folder}", "resume=auto"])).status == "finished", moment
        assert_same_run(uninterrupted, folder)
        shutil.rmtree(folder)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(uninterrupted, folder)
    (folder / "metrics.json").unlink()
    last = folder / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    last.unlink()  # it may share its bytes with best.ckpt
    last.write_bytes(content[: len(content) // 2])
    assert run(compose([*FRAGILE, f"run_dir={folder}", "resume=auto"])).status == "finished"
    said = capsys.readouterr().err
    assert "last.ckpt is unusable" in said
    assert "continuing from previous.ckpt" in said
    assert_same_run(uninterrupted, folder)
    for name in ("last", "previous"):
        (folder / "checkpoints" / f"{name}.ckpt").unlink()
        (folder / "checkpoints" / f"{name}.ckpt").write_bytes(b"nothing")
    (folder / "metrics.json").unlink()
    with pytest.raises(UserError, match="no other checkpoint"):
        run(compose([*FRAGILE, f"run_dir={folder}", "resume=auto"]))


def test_killed_before_the_first_checkpoint_it_starts_anew_with_an_unbroken_curve(
    uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "early"
    shutil.copytree(uninterrupted, folder)
    shutil.rmtree(folder / "checkpoints")
    (folder / "metrics.json").unlink()
    run(compose([*FRAGILE, f"run_dir={folder}", "resume=auto"]))
    assert_same_run(uninterrupted, folder)


def test_killed_before_the_best_checkpoint_had_its_name(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = checkpoints.alias

    def alias(path: Path, name: str) -> None:
        if name == "best.ckpt":
            raise KeyError("killed here")
        original(path, name)

    folder = tmp_path / "unnamed"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "alias", alias)
        with pytest.raises(KeyError):
            run(compose([*FRAGILE, f"run_dir={folder}"]))
    run(compose([*FRAGILE, f"run_dir={folder}", "resume=auto"]))
    assert_same_run(uninterrupted, folder)


def test_a_run_continued_within_the_same_second_has_one_unbroken_curve(uninterrupted: Path, tmp_path: Path) -> None:
    """Event files are read in the order of their names, which end in the process: make the earlier one's the larger."""
    original = Survival.on_train_batch_end

    def stop(self: Survival, trainer: Any, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == 13:
            raise KeyError("killed here")

    folder = tmp_path / "quick"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Survival, "on_train_batch_end", stop)
        with pytest.raises(KeyError):
            run(compose([*FRAGILE, "checkpoint_every=0", f"run_dir={folder}"]))
    (events,) = folder.glob("events.out.tfevents.*")
    parts = events.name.split(".")
    events.rename(folder / ".".join([*parts[:3], str(int(time.time())), "zzzz", *parts[5:]]))
    run(compose([*FRAGILE, f"run_dir={folder}", "resume=auto"]))
    assert_same_run(uninterrupted, folder)


def test_one_flipped_bit_is_found(uninterrupted: Path, tmp_path: Path) -> None:
    path = tmp_path / "flipped.ckpt"
    content = bytearray((uninterrupted / "checkpoints" / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        checkpoints.read(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["in the step", "after the callbacks"])
def test_asked_to_stop_it_saves_at_the_end_of_the_batch(
    number: signal.Signals, moment: str, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, step = ("training_step", 12) if moment == "in the step" else ("on_train_batch_end", 12)
    original, asked = getattr(Task, name), []

    def ask(self: Task, *rest: Any) -> Any:
        if self.trainer.global_step == step and not asked:
            asked.append(os.kill(os.getpid(), number))
        return original(self, *rest)

    folder = tmp_path / "asked"
    with monkeypatch.context() as patch:
        patch.setattr(Task, name, ask)
        result = run(compose([*FRAGILE, f"run_dir={folder}"]))
    assert (result.status, result.signal, result.reason) == ("interrupted", number, number.name)
    assert checkpoints.read(folder / "checkpoints" / "last.ckpt")["global_step"] == 13
    assert not (folder / "metrics.json").exists()
    run(compose([*FRAGILE, f"run_dir={folder}", "resume=auto"]))
    assert_same_run(uninterrupted, folder)


def test_ctrl_c_at_the_command_line_exits_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dl_zoo", "train", *SMALL, "trainer.max_epochs=500", "run_dir=run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr
        for line in process.stderr:
            if "epoch 1/500" in line:
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130, said
    assert "stopped by SIGINT and saved; go on with: dl-zoo train resume=run" in said
    assert "Traceback" not in said
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_a_diverged_run_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path: Path, cli: Any) -> None:
    wild = [*SMALL, "optimizer=sgd", "optimizer.lr=1e20", "run_dir=wild", "trainer.log_every_n_steps=3"]
    result = run(compose(wild))
    assert result.status == "diverged"
    assert "step 2 (epoch 1, batch 2)" in result.reason
    said = cli("train", *[w for w in wild if not w.startswith("run_dir")], "run_dir=wild2")
    assert said.code == 2
    assert said.err.strip().splitlines()[-1].startswith("dl-zoo: the run diverged: the loss is not finite at step 2")
    late = [*SMALL, "run_dir=late", "checkpoint_every=0"]
    original = Survival.on_train_batch_end

    def poison(self: Survival, trainer: Any, module: Any, *rest: Any) -> None:
        original(self, trainer, module, *rest)
        if trainer.global_step == 4:
            module.net.output.weight.data.fill_(float("nan"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Survival, "on_train_batch_end", poison)
        result = run(compose(late))
    assert "step 5 (epoch 1, batch 5)" in result.reason
    assert "last.ckpt" in result.reason
    kept = checkpoints.read(tmp_path / "late" / "checkpoints" / "last.ckpt")
    assert kept["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values())


def test_a_second_process_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with FileLock(folder / ".lock"), pytest.raises(UserError, match="in use by another process"):
        run(compose([*SMALL, "run_dir=run"]))
    assert not (folder / "config.yaml").exists()


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original, count = os.fsync, [0]

    def fsync(file: int) -> None:
        count[0] += os.fstat(file).st_size > 100_000
        if count[0] == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        said = cli("train", *SMALL, "run_dir=run")
    assert said.code == 2
    assert "run cannot be written: No space left on device" in said.err
    assert "Traceback" not in said.err
    assert checkpoints.read(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == STEPS
    assert run(compose([*SMALL, "resume=run"])).status == "finished"


def test_checkpoints_are_written_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    original = Survival._save
    monkeypatch.setattr(Survival, "_save", lambda self, t, m: (steps.append(t.global_step), original(self, t, m)))
    run(compose([*SMALL, "run_dir=run", "checkpoint_every=1e6"]))
    assert steps == [STEPS, 2 * STEPS]
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    survival = Survival(tmp_path, {}, "val/acc", "max", every_seconds=60)
    assert survival.every_seconds == 60


ONE_RANK_DIVERGES = """
import sys
import torch
from dl_zoo.compose import compose
from dl_zoo.run import run
from dl_zoo.tasks.classification import Classification

original = Classification.measure


def measure(self, batch):
    measured = original(self, batch)
    if self.trainer.global_rank == 1 and self.trainer.global_step == 5:
        measured.sums["loss"] = measured.sums["loss"] * torch.nan
    return measured


Classification.measure = measure
print(run(compose(sys.argv[1:])).reason)
"""


@pytest.mark.slow
def test_when_one_of_two_processes_diverges_the_other_does_not_wait_for_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(ONE_RANK_DIVERGES)
    words = [
        *SMALL,
        "data.batch_size=100",
        "pictures=false",
        "run_dir=run",
        "trainer.devices=2",
        "trainer.strategy=ddp",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "script.py", *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert "another process met a number that is not finite" in said.stdout, said.stderr
    assert "the loss is not finite at step 6 (epoch 1, batch 6)" in said.stdout + said.stderr
