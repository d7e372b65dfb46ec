"""A run that dies by SIGKILL at a given moment: `python killed.py MOMENT [overrides]`; not a test itself.

MOMENT is `step:N` (after batch N, before anything else happens), `saving:N` (half of the N-th checkpoint is on the
disk), `renaming:N` (the N-th checkpoint is complete but has not replaced the last one) or `never`.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

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
    original, count = torch.save, [0]

    def save(content: Any, file: Any) -> None:
        original(content, file)
        count[0] += 1
        if count[0] == number:
            file.flush()
            os.truncate(file.fileno(), file.tell() // 2)
            die()

    torch.save = save  # type: ignore[assignment]


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
    {"step": after_step, "saving": while_saving, "renaming": before_renaming, "never": lambda _: None}[moment](
        int(number or 0)
    )
    assert checkpoints.SCHEMA  # the module under attack is the one that run uses
    print(run(compose(sys.argv[2:])).status)
