"""Is a training step, or a pass, of our nets slower than torchvision's of the same architecture?

    python benchmarks/models.py [--device cuda] [--precision bf16] [--channels-last] [--case resnet] [--out FILE]
    python benchmarks/models.py --switches    our nets eager against channels-last and against bf16 autocast

Both sides run in one process on the same random pictures, in pairs back to back; which goes first alternates. A step is
forward, cross entropy, backward and SGD with momentum; inference is one pass without gradients. Reported: the median
over the pairs of the ratio ours / theirs, with its 95 % interval by the sign test (order statistics, exact). On a CPU
pictures and batches are small; on CUDA the paper's sizes, 64 pictures.
Criterion: exit code 3 where the lower end of an interval exceeds 1.02, that is, where ours is slower beyond doubt.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from scipy.stats import binom
from torch import Tensor, nn

from dl_zoo import create_model

CASES = {  # our name, torchvision's: pictures' width and batch on a CPU
    ("alexnet_tv", "alexnet"): (64, 4),
    ("vgg11", "vgg11"): (32, 2),
    ("vgg16", "vgg16"): (32, 2),
    ("vgg16_bn", "vgg16_bn"): (32, 2),
    ("googlenet_tv", "googlenet"): (64, 4),
    ("resnet18", "resnet18"): (64, 4),
    ("resnet50", "resnet50"): (64, 4),
}
LIMIT = 1.02
WARM_UP = 3


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def interval(values: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """Of the median: the order statistics between which the sign test leaves it."""
    values, n = sorted(values), len(values)
    below = int(binom.ppf((1 - confidence) / 2, n, 0.5))  # so many at each end may be left out, less one
    return values[max(below - 1, 0)], values[min(n - below, n - 1)]


def theirs(name: str) -> nn.Module:
    kind = {"init_weights": True} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(**kind)


def losses(net: Any, x: Tensor, y: Tensor) -> Tensor:
    """In training: with auxiliary heads at 0.3 where the net has them, in our form or in torchvision's."""
    if hasattr(net, "with_auxiliary"):
        logits, auxiliary = net.with_auxiliary(x)
    else:
        outputs = net(x)
        logits, auxiliary = (outputs[0], outputs[1:]) if isinstance(outputs, tuple) else (outputs, ())
    return F.cross_entropy(logits, y) + sum(0.3 * F.cross_entropy(each, y) for each in auxiliary)


class Side:
    """A net with its pictures, ready to be timed."""

    def __init__(self, net: nn.Module, x: Tensor, y: Tensor, precision: str, channels_last: bool):
        self.device, self.y, self.precision = x.device, y, precision
        memory = torch.channels_last if channels_last else torch.contiguous_format
        self.net, self.x = net.to(x.device, memory_format=memory), x.to(memory_format=memory)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-4, momentum=0.9)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def step(self) -> None:
        self.optimizer.zero_grad()
        with self.autocast():
            loss = losses(self.net, self.x, self.y)
        loss.backward()
        self.optimizer.step()

    def infer(self) -> None:
        with torch.inference_mode(), self.autocast():
            self.net(self.x)

    def seconds(self, work: Callable[[], None], repeats: int) -> float:
        began = now(self.device)
        for _ in range(repeats):
            work()
        return (now(self.device) - began) / repeats


def compare(ours: Side, other: Side, pairs: int, repeats: int) -> dict[str, dict[str, float]]:
    rows = {}
    for what, training in (("step", True), ("inference", False)):
        works = []
        for side in (ours, other):
            side.net.train(training)
            works.append(side.step if training else side.infer)
            side.seconds(works[-1], WARM_UP)
        times: list[list[float]] = [[], []]
        for number in range(pairs):
            first = number % 2  # who goes first changes, so that neither gets the warmer machine
            for place in (first, 1 - first):
                times[place].append((ours, other)[place].seconds(works[place], repeats))
        ratios = [a / b for a, b in zip(*times, strict=True)]
        low, high = interval(ratios)
        rows[what] = {
            "ours_ms": 1e3 * statistics.median(times[0]),
            "other_ms": 1e3 * statistics.median(times[1]),
            "ratio": statistics.median(ratios),
            "low": low,
            "high": high,
        }
    return rows


def batch(size: int, number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    x = torch.randn(number, 3, size, size, device=device)
    return x, torch.randint(0, 1000, (number,), device=device)


def measured(args: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """The name of each case and its rows."""
    for (name, other), cpu in CASES.items():
        if args.case not in name:
            continue
        torch.manual_seed(0)
        x, y = batch(*((224, 64) if device.type == "cuda" else cpu), device)

        def ours(precision: str, channels_last: bool, name: str = name, x: Tensor = x, y: Tensor = y) -> Side:
            return Side(create_model(name), x, y, precision, channels_last)

        if not args.switches:
            one = ours(args.precision, args.channels_last)
            two = Side(theirs(other), x, y, args.precision, args.channels_last)
            yield f"{name} against torchvision's {other}", compare(one, two, args.pairs, args.repeats)
            continue
        for switch, settings in (("channels-last", ("32", True)), ("bf16", ("bf16", False))):
            one, two = ours(*settings), ours("32", False)
            yield f"{name}, {switch} against eager", compare(one, two, args.pairs, args.repeats)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--switches", action="store_true")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--repeats", type=int, help="steps a side and pair (1 on a CPU, 3 on CUDA)")
    parser.add_argument("--case", default="", help="only the nets whose name contains this")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    args.repeats = args.repeats or (3 if device.type == "cuda" else 1)
    rows = {}
    print(f"{'':48}{'ours':>9}{'other':>9}  ratio  95 % interval")
    for case, found in measured(args, device):
        rows[case] = found
        for what, row in found.items():
            times = f"{row['ours_ms']:9.2f}{row['other_ms']:9.2f}  {row['ratio']:5.3f}"
            print(f"{case + ', ' + what:48}{times}  {row['low']:.3f} to {row['high']:.3f}", flush=True)
    slower = [f"{case}, {what}" for case, row in rows.items() for what in row if row[what]["low"] > LIMIT]
    result = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "precision": "the switch" if args.switches else args.precision,
        "channels_last": "the switch" if args.switches else args.channels_last,
        "pairs": args.pairs,
        "repeats": args.repeats,
        "cases": rows,
        "criterion": None if args.switches else f"no interval's lower end above {LIMIT}",
        "holds": None if args.switches else not slower,
    }
    kind = "switches" if args.switches else "models"
    out = args.out or Path(f"results/benchmarks/{kind}-{device.type}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + os.linesep)
    if slower and not args.switches:
        print(f"slower than torchvision's beyond doubt: {'; '.join(slower)}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
