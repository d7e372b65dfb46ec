"""Logic gates: the truth table of a Boolean function, the first thing that was asked of artificial neurons.

McCulloch, Pitts, "A Logical Calculus of the Ideas Immanent in Nervous Activity", 1943, Bull. Math. Biophys. 5, built
gates of threshold units. Minsky, Papert, "Perceptrons", 1969, showed which of them one unit cannot be: those that no
plane separates, and xor is the smallest.

Of F inputs, with n of them on:

    and  n = F    or  n >= 1    nand, nor  their negations    majority  n > F / 2    xor  n odd    xnor  n even

Nothing is held out, since a gate is its table: validation and test are the 2^F rows, training is `repeats` copies.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dl_zoo.data.memory import MemoryData, Split, at_least_one
from dl_zoo.errors import UserError

GATES: dict[str, Callable[[Tensor, int], Tensor]] = {  # of the number of inputs that are on, and of inputs
    "and": lambda on, inputs: on == inputs,
    "or": lambda on, inputs: on > 0,
    "nand": lambda on, inputs: on < inputs,
    "nor": lambda on, inputs: on == 0,
    "xor": lambda on, inputs: on % 2 == 1,
    "xnor": lambda on, inputs: on % 2 == 0,
    "majority": lambda on, inputs: 2 * on > inputs,
}
MOST = 16  # inputs: 65,536 rows


class LogicGates(MemoryData):
    """Inputs (B, F) of -1 and +1, or of 0 and 1 where `signed` is false; the target is the gate's output, 0 or 1.

    -1 for off, because an input of 0 teaches its weight nothing (a step is a multiple of the input), and because the
    margin is wider: by Novikoff's theorem a perceptron errs on `and` at most 9 times with -1, at most 51 with 0.

    `repeats`: copies of the table in an epoch, so that it has a few hundred items; each epoch ends with a validation
    and a checkpoint. `data_dir` is not used. UserError for an unknown gate, and for inputs not in 2..16.
    """

    classes = ["0", "1"]  # noqa: RUF012

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        data_dir: str = "data",
        batch_size: int = 4,
        gate: str = "xor",
        inputs: int = 2,
        repeats: int = 64,
        signed: bool = True,
        seed: int = 0,
    ):
        super().__init__(dims, data_dir=data_dir, batch_size=batch_size, seed=seed)
        if gate not in GATES:
            raise UserError(f"data.gate={gate}: must be one of {', '.join(GATES)}")
        at_least_one("repeats", repeats)
        at_least_one("inputs", inputs)
        if not 2 <= inputs <= MOST:
            raise UserError(f"data.inputs={inputs}: must be from 2 to {MOST}")
        self.gate, self.inputs, self.repeats, self.signed = gate, inputs, repeats, signed
        self.sizes = {"train": repeats * 2**inputs, "val": 2**inputs, "test": 2**inputs}

    def read(self) -> dict[str, Split]:
        rows, outputs = truth_table(self.gate, self.inputs)
        table = rows.mul(2).sub(1) if self.signed else rows, outputs
        return {"train": (table[0].repeat(self.repeats, 1), outputs.repeat(self.repeats)), "val": table, "test": table}


def truth_table(gate: str, inputs: int) -> tuple[Tensor, Tensor]:
    """Rows (2^F, F) of 0 and 1 in the order of counting, and the gate's outputs (2^F,) int64.

    >>> truth_table("xor", 2)[1].tolist(), truth_table("majority", 3)[1].tolist()
    ([0, 1, 1, 0], [0, 0, 0, 1, 0, 1, 1, 1])
    """
    places = torch.arange(inputs - 1, -1, -1)
    rows = torch.arange(2**inputs)[:, None] >> places & 1
    return rows.float(), GATES[gate](rows.sum(1), inputs).long()
