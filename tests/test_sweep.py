"""Sweeps: names that say what was swept, failures that end only themselves, nothing done twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Said, trained

from dl_zoo.folder import final_metrics, read_config
from dl_zoo.tasks.task import Task

QUICK = ["trainer=smoke", "trainer.accelerator=cpu", "pictures=false", "logger=none", "data.batch_size=16"]


def runs() -> list[str]:
    return sorted(path.name for path in Path("runs").iterdir())


def test_runs_are_named_after_what_is_swept(cli: Callable[..., Said]) -> None:
    said = cli("train", "-m", "model=mlp", "optimizer=sgd,adam", "regularizer=[],[l2,dropout]", *QUICK)
    assert said.code == 0, said.err
    assert runs() == [
        f"mlp-digits-{optimizer}-{regularizer}"
        for optimizer in ("adam", "sgd")
        for regularizer in ("l2+dropout", "none")
    ]
    assert "4 jobs: 4 finished" in said.err
    assert set(os.listdir()) == {"runs"}


def test_a_name_of_ones_own_is_kept(cli: Callable[..., Said]) -> None:
    assert cli("train", "-m", "name=mine", "model=lenet,dnn", *QUICK).code == 0  # other names of lenet5 and mlp
    assert runs() == ["mine"]
    assert len(list(Path("runs/mine").iterdir())) == 2


def test_finished_jobs_are_not_done_again(cli: Callable[..., Said]) -> None:
    base = ["train", "-m", "model=mlp", *QUICK]
    sweep = [*base, "optimizer.lr=0.001,0.01"]
    assert cli(*sweep).code == 0
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("metrics.json")}
    said = cli(*base, "optimizer.lr=0.001,0.01,0.1")
    assert "3 jobs: 2 done before, 1 finished" in said.err
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    said = cli(*base, "optimizer.lr=0.001", "seed=0", "trainer.max_epochs=2")  # longer is not the same
    assert "1 job: 1 finished" in said.err


def test_failed_jobs_do_not_end_a_sweep_and_are_told_at_its_end(cli: Callable[..., Said]) -> None:
    words = ["model=mlp", "model.activation=relu,rellu", "optimizer=sgd", "optimizer.lr=0.1,1e30"]
    said = cli("train", "-m", *words, *QUICK, "trainer.limit_train_batches=8", "trainer.log_every_n_steps=1")
    assert said.code == 2
    last = said.err[said.err.index("4 jobs:") :]
    assert "4 jobs: 1 finished, 1 diverged, 2 failed" in last
    assert last.count("model: activation='rellu' is not one of") == 2
    assert last.count("the run diverged") == 1
    assert "Traceback" not in said.err
    assert len(list(Path("runs").rglob("metrics.json"))) == 1


def test_an_interrupted_sweep_is_completed_by_the_same_command(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, asked = Task.settle, []

    def settle(self: Task) -> None:
        original(self)
        if self.trainer.training and not asked and list(Path("runs").glob("*/*/metrics.json")):  # in the second run
            asked.append(os.kill(os.getpid(), signal.SIGINT))

    sweep = ["train", "-m", "seed=0,1,2", *QUICK]
    with monkeypatch.context() as patch:
        patch.setattr(Task, "settle", settle)
        said = cli(*sweep)
    assert said.code == 130
    assert "the same command with resume=auto" in said.err
    assert "1 finished, 1 interrupted" in said.err
    said = cli(*sweep, "resume=auto")
    assert "3 jobs: 1 done before, 2 finished" in said.err
    assert len(list(Path("runs").glob("*/*/metrics.json"))) == len(list(Path("runs").glob("*/*/"))) == 3


def test_a_crash_is_shown_and_the_others_go_on(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    import dl_zoo.run

    original = dl_zoo.run.build_net

    def build(cfg: object) -> object:
        if cfg.seed == 0:  # type: ignore[attr-defined]
            raise ZeroDivisionError("a bug of ours")
        return original(cfg)  # type: ignore[arg-type]

    monkeypatch.setattr(dl_zoo.run, "build_net", build)
    said = cli("train", "-m", "seed=0,1", *QUICK)
    assert said.code == 1
    assert "ZeroDivisionError: a bug of ours" in said.err
    assert "2 jobs: 1 crashed, 1 finished" in said.err


def test_mistakes_are_told_before_the_first_job(cli: Callable[..., Said]) -> None:
    said = cli("train", "-m", "model=mlp,lenet55", "optimizer=sgd,adm", "trainer.max_epoch=1")
    assert said.code == 2
    assert said.err.splitlines() == [
        "dl-zoo: trainer.max_epoch: there is no such key; did you mean trainer.max_epochs?",
        "dl-zoo: model=lenet55: there is no such model; did you mean lenet5?",
        "dl-zoo: optimizer=adm: there is no such optimizer; did you mean adam?",
    ]
    assert "leave it out" in cli("train", "-m", "seed=0,1", "run_dir=one").err
    assert not os.listdir()


def test_watched_otherwise_it_is_another_run(cli: Callable[..., Said]) -> None:
    base = ["train", "-m", "model=mlp", "seed=0", *QUICK]
    assert "1 finished" in cli(*base).err
    assert "1 finished" in cli(*base, "logger=csv").err
    assert "1 done before" in cli(*base, "checkpoint_every=5").err


def test_several_folders_of_ones_own(cli: Callable[..., Said]) -> None:
    for number, name in enumerate(("one", "two")):
        path = Path(f"d{number}/optimizer/{name}.yaml")
        path.parent.mkdir(parents=True)
        path.write_text(f"_target_: torch.optim.SGD\n_partial_: true\nlr: 0.{number + 1}\n")
    said = cli("train", "-m", "--config-dir", "d0", "--config-dir", "d1", "optimizer=one,two", *QUICK)
    assert "2 jobs: 2 finished" in said.err


def test_the_environment_is_as_before(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    cli("train", "-m", "seed=0", *QUICK)
    assert "HYDRA_FULL_ERROR" not in os.environ
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    cli("train", "-m", "seed=1", *QUICK)
    assert os.environ["HYDRA_FULL_ERROR"] == "0"


def call(*words: str, threads: int = 1) -> str:
    command = [sys.executable, "-m", "dl_zoo", "train", "-m", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    said = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert said.returncode == 0, said.stderr
    return said.stdout + said.stderr


def test_several_processes_at_once() -> None:
    said = call("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "model=mlp", "seed=0,1", *QUICK)
    assert "2 jobs: 2 finished" in said
    assert runs() == ["mlp-digits-seed0", "mlp-digits-seed1"]
    assert set(os.listdir()) == {"runs"}


@pytest.mark.slow
def test_optuna_searches() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    search += ["hydra.sweeper.sampler.seed=0"]
    said = call(*search, "model=mlp", "optimizer.lr=tag(log,interval(0.0001,0.1))", *QUICK)
    assert "3 jobs: 3 finished" in said
    folders = list(Path("runs").glob("*/*/"))
    rates = {read_config(folder).optimizer.lr for folder in folders}
    assert len(rates) == 3
    assert all(0.0001 <= rate <= 0.1 for rate in rates)
    best = max((final_metrics(folder) or {})["best"] for folder in folders)
    assert str(round(best, 4))[:6] in said or f"{best}" in said


@pytest.mark.slow
def test_twelve_runs_cost_no_more_than_twelve_fits(cli: Callable[..., Said]) -> None:
    """In process: what a sweep adds to a fit is composing and looking for a finished run."""
    small = ["model=mlp", "trainer.max_epochs=1"]
    trained(*small)
    started = time.process_time()
    for seed in range(12):
        trained(*small, f"seed={seed + 100}")
    alone = time.process_time() - started
    started = time.process_time()
    said = cli(
        "train", "-m", *small, "model=mlp", "data.batch_size=128", "trainer=cpu", "trainer.log_every_n_steps=4",
        "pictures=false", "logger=none", f"seed={','.join(map(str, range(12)))}",
    )  # fmt: skip
    assert "12 jobs: 12 finished" in said.err
    assert time.process_time() - started < alone + 6  # one start-up: importing Lightning takes 5 s
