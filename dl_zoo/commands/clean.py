"""`dl-zoo clean PATHS`: deletes the checkpoints that finished runs no longer need; shows them first."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dl_zoo.commands.arguments import Parser
from dl_zoo.comparison import read_metrics, run_folders
from dl_zoo.errors import UserError

ORDER = ("best", "last", "previous")  # the first that is there is kept
DAY = 86400  # seconds

DESCRIPTION = """Delete the checkpoints of finished runs but for the best one.

Only checkpoints/best.ckpt stays. Such a run can still be evaluated and be the
weights= of another, but no longer be trained further. Unfinished runs, runs in
use and whatever is a link are left alone. Nothing is deleted without --yes.
"""


def parser() -> Parser:
    result = Parser(
        "dl-zoo clean",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=DESCRIPTION,
        allow_abbrev=False,
    )
    result.add_argument("paths", nargs="*", default=["runs"], help="run folders, or folders that hold them; runs/")
    result.add_argument("--older-than", type=_days, default=0.0, metavar="DAYS", help="only runs finished so long ago")
    result.add_argument("--yes", action="store_true", help="really delete")
    return result


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    newest = time.time() - args.older_than * DAY if args.older_than else float("inf")
    names_left: dict[tuple[int, int], int] = {}
    total = runs = 0
    for folder in run_folders(map(without_links, args.paths)):
        try:
            files, freed = clean(folder, newest, args.yes, names_left)
        except UserError as error:
            print(f"{error}; left alone", file=sys.stderr)
            continue
        if files:
            print(f"{_size(freed):>12}  {folder}: {', '.join(file.name for file in files)}")
            total, runs = total + freed, runs + 1
    print(f"{_size(total):>12}  {'freed' if args.yes else 'to be freed'} in {runs} finished run{'s' * (runs != 1)}")
    if not args.yes:
        print("nothing was deleted; do it with --yes")
    return 0


def clean(folder: Path, newest: float, really: bool, names_left: dict[tuple[int, int], int]) -> tuple[list[Path], int]:
    """The files of a run that go, and the bytes that this frees. With `really` they are gone.

    Raises:
        UserError: the run is in use, damaged or linked, or its files cannot be deleted.
    """
    if not superfluous(folder, newest):
        return [], 0  # an unfinished run is not even locked
    try:
        with held(folder, really):
            files = superfluous(folder, newest)  # again, now that nobody else can continue the run
            freed = sum(bytes_freed(file, names_left) for file in files)
            for file in reversed(files) if really else ():
                file.unlink()
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be deleted: {error.strerror}") from error
    return files, freed


def superfluous(folder: Path, newest: float) -> list[Path]:
    """The checkpoints that a run finished by `newest` (seconds since 1970) can do without; [] while it is unfinished.

    Raises:
        UserError: something is a link, which a run never makes and which may lead anywhere, or the metrics are damaged.
    """
    if read_metrics(folder) is None or (folder / "metrics.json").stat().st_mtime > newest:
        return []
    checkpoints = folder / "checkpoints"
    for path in (
        folder / "config.yaml",
        folder / "metrics.json",
        folder / ".lock",
        checkpoints,
        *checkpoints.glob("*"),
    ):
        if path.is_symlink():
            raise UserError(f"{path} is a link")
    there = [path for name in ORDER if (path := checkpoints / f"{name}.ckpt").is_file()]
    return there[1:]


def bytes_freed(file: Path, names_left: dict[tuple[int, int], int]) -> int:
    """What deleting this name frees: nothing while the same file has another name, as `best` is often `last` too.

    `names_left` counts, by device and inode, the names that remain after those deleted so far.
    """
    status = file.stat()
    inode = (status.st_dev, status.st_ino)
    names_left[inode] = names_left.get(inode, status.st_nlink) - 1
    if names_left[inode]:
        return 0
    del names_left[inode]  # the number may be given to another file
    return status.st_size


@contextmanager
def held(folder: Path, create: bool) -> Iterator[None]:
    """Hold the run's lock; without `create` only where there is one, so that looking changes nothing."""
    path = folder / ".lock"
    if not create and not path.exists():
        yield
        return
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder} is in use by another process") from None
    try:
        yield
    finally:
        if create:
            path.unlink(missing_ok=True)  # while it is held, as the run itself does
        lock.release()


def without_links(path: str) -> Path:
    """The path, if no link is on the way to it. UserError: there is one."""
    given = Path(path).expanduser()
    if given.exists() and os.path.abspath(given) != str(given.resolve()):
        raise UserError(f"{path} is or lies behind a link; name {given.resolve()}")
    return given


def _days(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a number of days, 0 or more")


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
