"""A run that dies by SIGKILL at a given moment: `python killed.py MOMENT [overrides]`; not a test itself.

MOMENT is `step:N` (after batch N, before anything else happens), `saving:N` (half of the N-th checkpoint is on the
disk), `renaming:N` (the N-th checkpoint is complete but has not replaced the last one), `best:N` (the
N-th best checkpoint is written but not named so) or `never`.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from dl_zoo import checkpoints
from dl_zoo.compose import compose
from dl_zoo.run import run
from dl_zoo.tasks.task import Task


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after_step(number: int) -> None:
    original = Task.settle

    def settle(self: Task) -> None:
        original(self)
        if self.trainer.training and self.trainer.global_step == number:
            die()

    Task.settle = settle  # type: ignore[method-assign]


def while_saving(number: int) -> None:
    original, count = os.fsync, [0]

    def fsync(file: int) -> None:
        size = os.fstat(file).st_size
        count[0] += size > 100_000  # a checkpoint, not config.yaml
        if size > 100_000 and count[0] == number:
            os.truncate(file, size // 2)
            die()
        original(file)

    os.fsync = fsync


def before_naming_the_best(number: int) -> None:
    original, count = checkpoints.alias, [0]

    def alias(path: Path, name: str) -> None:
        count[0] += name == "best.ckpt"
        if name == "best.ckpt" and count[0] == number:
            die()
        original(path, name)

    checkpoints.alias = alias


def before_renaming(number: int) -> None:
    original, count = Path.replace, [0]

    def replace(self: Path, target: Any) -> Any:
        count[0] += self.name == ".last.ckpt.writing"
        if count[0] == number:
            die()
        return original(self, target)

    Path.replace = replace  # type: ignore[method-assign]


if __name__ == "__main__":
    moment, _, number = sys.argv[1].partition(":")
    ways = {"step": after_step, "saving": while_saving, "renaming": before_renaming, "best": before_naming_the_best}
    if moment in ways:
        ways[moment](int(number))
    print(run(compose(sys.argv[2:])).status)
