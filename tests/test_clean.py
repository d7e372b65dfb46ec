"""What clean deletes, what it must never touch, and the bytes that it promises."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dl_zoo.commands.clean import main
from dl_zoo.errors import UserError
from dl_zoo.run import Result

MB = 10**6


def make(folder: str, *names: str, finished: bool = True, shared: bool = False) -> Path:
    """A run whose checkpoints have 1 MB each; with `shared`, best and last are one file."""
    path = Path(folder)
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text("seed: 0\n")
    if finished:
        (path / "metrics.json").write_text('{"epoch": 2.0}')
    for name in names or ("best", "last", "previous"):
        with (path / "checkpoints" / f"{name}.ckpt").open("wb") as file:
            file.truncate(MB)
    if shared:
        link(path, "last", path, "best")
    return path


def link(run: Path, name: str, other: Path, other_name: str) -> None:
    """Make a checkpoint a second name of another."""
    path = run / "checkpoints" / f"{name}.ckpt"
    path.unlink(missing_ok=True)
    path.hardlink_to(other / "checkpoints" / f"{other_name}.ckpt")


def left(path: Path) -> list[str]:
    return sorted(file.stem for file in (path / "checkpoints").iterdir())


def everything() -> dict[str, tuple[int, int]]:
    """Every name below here with its change time and its number of names."""
    return {str(path): (path.lstat().st_ctime_ns, path.lstat().st_nlink) for path in Path().rglob("*")}


def promised(out: str) -> float:
    """MB in all."""
    found = re.search(r"([\d.]+) MB  (freed|to be freed) in", out)
    assert found, out
    return float(found[1])


# ---- what goes ---------------------------------------------------------------------------------------------------


def test_looking_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = make("runs/a/1"), make("runs/a/2")
    (run / ".lock").touch()  # left by a kill
    before = everything()
    assert main([]) == 0
    assert everything() == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["2.0", "MB", "runs/a/1:", "last.ckpt,", "previous.ckpt"]
    assert lines[-1] == "nothing was deleted; do it with --yes"


def test_yes_keeps_the_best_alone(capsys: pytest.CaptureFixture[str]) -> None:
    run, other = make("runs/a/1"), make("deep/er/and/deeper")
    kept = [path for path in everything() if "last" not in path and "previous" not in path]
    assert main(["runs", "deep", "--yes"]) == 0
    assert left(run) == left(other) == ["best"]
    assert list(everything()) == kept  # no lock stays behind either
    out = capsys.readouterr().out
    assert promised(out) == 4.0
    assert "--yes" not in out
    main(["runs", "deep", "--yes"])
    assert promised(capsys.readouterr().out) == 0


@pytest.mark.parametrize(
    ("there", "kept"),
    [(("last", "previous"), "last"), (("previous",), "previous"), (("best",), "best"), (("best", "previous"), "best")],
)
def test_without_a_best_the_next_is_kept(there: tuple[str, ...], kept: str) -> None:
    run = make("runs/a/1", *there)
    main(["--yes"])
    assert left(run) == [kept]


def test_a_real_run_can_be_loaded_afterwards(finished: Result) -> None:
    from dl_zoo import load_run

    folder = Path(shutil.copytree(finished.folder, "copy"))
    before = load_run(folder, "best")
    assert main(["copy", "--yes"]) == 0
    assert left(folder) == ["best"]
    assert load_run(folder).step == before.step


def test_older_than(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = make("runs/a/1"), make("runs/a/2")
    days_ago = time.time() - 10 * 86400
    os.utime(old / "metrics.json", (days_ago, days_ago))
    main(["--older-than", "10.5", "--yes"])
    assert len(left(old)) == 3
    main(["--older-than", "9.5", "--yes"])
    assert (len(left(old)), len(left(new))) == (1, 3)


@pytest.mark.parametrize("days", ["x", "-1", "nan", "inf"])
def test_days_that_are_none(days: str) -> None:
    with pytest.raises(UserError, match="is not a number of days"):
        main([f"--older-than={days}"])


# ---- bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("yes", [[], ["--yes"]])
def test_a_file_counts_when_its_last_name_goes(yes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    make("runs/a/1", shared=True)  # last is best, which stays: previous alone
    both = make("runs/a/2")
    link(both, "previous", both, "last")  # one file under two names that go
    third, fourth = make("runs/a/3"), make("runs/a/4")
    link(fourth, "last", third, "last")  # in two runs
    link(third, "previous", both, "best")  # goes here, stays there
    main(yes)
    out = capsys.readouterr().out
    sizes = {line.split()[2]: float(line.split()[0]) for line in out.splitlines() if "runs/" in line}
    assert sizes == {"runs/a/1:": 1, "runs/a/2:": 1, "runs/a/3:": 0, "runs/a/4:": 2}
    assert promised(out) == 4


def test_a_name_elsewhere_keeps_the_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    run = make("runs/a/1")
    Path("mine.ckpt").hardlink_to(run / "checkpoints" / "last.ckpt")
    main(["--yes"])
    assert promised(capsys.readouterr().out) == 1
    assert Path("mine.ckpt").stat().st_size == MB


# ---- what is left alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metrics", [None, "", "{}", "[1]"])
def test_an_unfinished_run_is_not_touched(metrics: str | None) -> None:
    run = make("runs/a/1", finished=False)
    if metrics is not None:
        (run / "metrics.json").write_text(metrics)
    before = everything()
    assert main(["--yes"]) == 0
    assert everything() == before


@pytest.mark.parametrize("yes", [[], ["--yes"]])
def test_a_run_in_use_is_not_touched(yes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run, free = make("runs/a/1"), make("runs/a/2")
    hold = (
        "from filelock import FileLock\nlock = FileLock('runs/a/1/.lock')\nlock.acquire()\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        assert main(yes) == 0
        assert (run / ".lock").exists()
        other.communicate(b"\n")
    captured = capsys.readouterr()
    assert captured.err == "runs/a/1 is in use by another process; left alone\n"
    assert "runs/a/1" not in captured.out
    assert len(left(run)) == 3
    assert len(left(free)) == (1 if yes else 3)


@pytest.mark.parametrize(
    "name", ["last.ckpt", "best.ckpt", "previous.ckpt", "mine.ckpt", ".", "../metrics.json", "../.lock"]
)
def test_a_run_with_a_link_in_it_is_not_touched(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A `best.ckpt` that only points to `last.ckpt`, say, would be lost with it."""
    run = make("runs/a/1")
    linked = Path(os.path.normpath(run / "checkpoints" / name))
    target = Path("target")
    if linked.exists():
        linked.rename(target)
    else:
        target.touch()
    linked.symlink_to(target.absolute())
    before = everything()
    assert main(["--yes"]) == 0
    assert everything() == before
    assert capsys.readouterr().err == f"{linked} is a link; left alone\n"


def test_runs_behind_links_are_not_found() -> None:
    run = make("store/a/1")
    Path("runs").mkdir()
    Path("runs/a").symlink_to(Path("store/a").absolute())
    Path("linked").symlink_to("store")
    assert main(["--yes"]) == 0
    for path in ("linked", "linked/a/1", "store/../linked/a"):
        with pytest.raises(UserError, match=f"link; name {Path('store').absolute()}"):
            main([path, "--yes"])
    assert len(left(run)) == 3
    main(["store/../store", "--yes"])
    assert left(run) == ["best"]


def test_a_folder_that_cannot_be_written_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("runs/a/1")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["--yes"]) == 0
    captured = capsys.readouterr()
    assert captured.err.endswith("cannot be deleted: Permission denied; left alone\n")
    assert promised(captured.out) == 0


def test_paths_that_are_not_there() -> None:
    with pytest.raises(UserError, match="runs: there is no such folder; name"):
        main([])
