"""What recurrent nets cost: a step of the trainer over a loop by hand, time against length, GRU against LSTM.

    export OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000
    python benchmarks/recurrent.py [--part overhead|length|gates] [--wall] [--out FILE]

- overhead: `rnn`, `lstm` and `gru` on the adding problem through `dl_zoo.run.run`, with its default metrics, logging,
  progress and checkpoints, against a loop that one would write around `torch.nn.RNN`, `LSTM`, `GRU` and a linear layer:
  the same kernels, batches and optimizer. Milliseconds a step, each pair back to back (see loop_overhead.py).
- length: a step, forward and backward, of each net, by torch's kernels and by the written cells, over 125 to 2,000
  steps of a sequence: the ratio at twice the length, and the exponent of a power of the length, fitted to all.
- gates: a step of the GRU against one of the LSTM of equal width, in pairs (see pairs.py).

The two thresholds keep glibc from giving large blocks of memory back after each step: it would, and the faults of pages
that it gets anew make a step of torch's LSTM over 1,000 numbers 2.8 times one over 500.
Times are the processor's own, those of all threads together, which other work on the machine moves little; with one
thread they are what a clock shows on a quiet machine. `--wall`: the clock's.
Criteria, exit code 3: at most 0.6 ms a step are added; exponents at most 1.1; the GRU's written cells take less time
than the LSTM's, by the upper end of the interval, from a width of 128 on: below it a step is the calls of torch's
functions, of which both cells make as many. Torch's own kernels are reported and not judged.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import loop_overhead
import numpy as np
import pairs
import torch
import torch.nn.functional as F
from torch import nn

from dl_zoo import compose, trust
from dl_zoo.models.gru import GRU
from dl_zoo.models.lstm import LSTM
from dl_zoo.models.rnn import RNN
from dl_zoo.optimizers import build_optimizer

NETS = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
WIDTH, BATCH, LENGTH = 32, 32, 20  # of the overhead: steps of a millisecond or two, in which tenths can be seen
LENGTHS = (125, 250, 500, 1000, 2000)
ADDED, EXPONENT, NARROW = 0.6, 1.1, 64
CPU = torch.device("cpu")


class ByHand(nn.Module):
    def __init__(self, kernel: type[nn.RNNBase]):
        super().__init__()
        self.rnn, self.head = kernel(2, WIDTH, batch_first=True), nn.Linear(WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def by_hand(name: str, overrides: list[str], steps: int) -> float:
    cfg = compose.compose(overrides)
    data = trust.build(cfg.data)
    data.setup()
    net = ByHand(NETS[name][1]).train()
    optimizer = build_optimizer(cfg.optimizer)(net.parameters())
    began = 0.0
    for step, (x, y) in enumerate(data.loader("train", shuffle=True), 1):
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == loop_overhead.WARM_UP:
            began = loop_overhead.now(CPU)
        if step == loop_overhead.WARM_UP + steps:
            break
    return (loop_overhead.now(CPU) - began) / steps


def overhead(repeats: int, steps: int) -> dict[str, dict[str, float]]:
    rows = {}
    items = BATCH * (loop_overhead.WARM_UP + steps + 1)
    for name in NETS:
        overrides = [f"model={name}", f"model.width={WIDTH}", "data=adding", f"data.length={LENGTH}", "trainer=cpu"]
        overrides += [f"data.batch_size={BATCH}", f"data.train_items={items}", "data.eval_items=32"]
        found: list[tuple[float, float]] = []
        for number in range(repeats):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "run"
                sides: list[Callable[[], float]] = [
                    partial(by_hand, name, overrides, steps),
                    partial(loop_overhead.ours, overrides, steps, folder),
                ]
                first = number % 2
                times = {side: sides[side]() for side in (first, 1 - first)}
                found.append((1e3 * times[0], 1e3 * times[1]))
        extra = [ours - other for other, ours in found]
        low, high = bootstrap(extra)
        medians = {
            "by_hand_ms": statistics.median(a for a, _ in found),
            "ours_ms": statistics.median(b for _, b in found),
        }
        rows[name] = {**medians, "added_ms": statistics.median(extra), "low": low, "high": high}
        print(f"{name:6} added {rows[name]['added_ms']:.3f} ms a step, {low:.3f} to {high:.3f}", flush=True)
    return rows


def bootstrap(values: list[float], draws: int = 10_000) -> tuple[float, float]:
    """The middle 95 % of the medians of as many values, drawn from these with replacement."""
    drawn = np.random.RandomState(0).choice(values, (draws, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(high)


def step_of(name: str, written: bool, length: int, width: int = 64, batch: int = 16) -> Callable[[], None]:
    """Forward and backward of numbers (batch, length, width)."""
    torch.manual_seed(0)
    net, x = NETS[name][0](input_size=width, width=width, written=written), torch.randn(batch, length, width)

    def step() -> None:
        net.zero_grad()
        net(x)[0].sum().backward()

    return step


def length(repeats: int) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for name in NETS:
        for written in (False, True):
            steps = [step_of(name, written, each) for each in LENGTHS]
            for step in steps:
                step()
            passes = [[pairs.seconds(step, 1, CPU) for step in steps] for _ in range(repeats)]  # all lengths in turns
            medians = [1e3 * statistics.median(column) for column in zip(*passes, strict=True)]
            doubled = [later / earlier for earlier, later in pairwise(medians)]
            exponent = float(np.polyfit(np.log(LENGTHS), np.log(medians), 1)[0])
            case = f"{name}, {'written' if written else 'fused'}"
            by_length = dict(zip(map(str, LENGTHS), medians, strict=True))
            rows[case] = {"ms": by_length, "at_twice_the_length": doubled, "exponent": exponent}
            times = " ".join(f"{ms:8.1f}" for ms in medians)
            print(f"{case:16} {times} ms, exponent {exponent:.3f}", flush=True)
    return rows


def gates(count: int) -> dict[str, pairs.Row]:
    rows = {}
    print(pairs.HEADER)
    for kind, written in (("written", True), ("fused", False)):
        for width in (NARROW, 128, 256):
            sides = [step_of(name, written, 100, width, 32) for name in ("gru", "lstm")]
            case = f"gru against lstm, {kind}, width {width}"
            rows[case] = pairs.compare(sides[0], sides[1], CPU, count, 1)
            print(pairs.shown(case, rows[case]), flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["overhead", "length", "gates"], help="only this; default: all")
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--repeats", type=int, default=11, help="of overhead and length")
    parser.add_argument("--steps", type=int, default=200, help="of overhead, a side and repeat")
    parser.add_argument("--pairs", type=int, default=30, help="of gates")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/recurrent-cpu.json"))
    args = parser.parse_args()
    if not args.wall:
        loop_overhead.now = pairs.now = lambda device: time.process_time()
    parts = [args.part] if args.part else ["overhead", "length", "gates"]
    found: dict[str, Any] = {}
    if "overhead" in parts:
        found["overhead"] = overhead(args.repeats, args.steps)
    if "length" in parts:
        found["length"] = length(args.repeats)
    if "gates" in parts:
        found["gates"] = gates(args.pairs)
    missed = [
        f"{k}: {row['added_ms']:.2f} ms added" for k, row in found.get("overhead", {}).items() if row["low"] > ADDED
    ]
    missed += [
        f"{k}: exponent {row['exponent']:.2f}"
        for k, row in found.get("length", {}).items()
        if row["exponent"] > EXPONENT
    ]
    missed += [
        f"{k}: {row['ratio']:.2f}"
        for k, row in found.get("gates", {}).items()
        if "written" in k and not k.endswith(str(NARROW)) and row["high"] >= 1
    ]
    result = {
        **pairs.machine(CPU),
        "clock": "wall" if args.wall else "processor",
        **{key: getattr(args, key) for key in ("repeats", "steps", "pairs")},
        **found,
        "criterion": f"at most {ADDED} ms added; exponents at most {EXPONENT}; written: GRU below LSTM from 128 on",
        "holds": not missed,
    }
    pairs.write(args.out, result)
    for line in missed:
        print(f"missed: {line}")
    return 3 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
