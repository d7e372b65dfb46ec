"""Is a training step, or a pass, of our nets slower than torchvision's of the same architecture?

    python benchmarks/models.py [--device cuda] [--precision bf16] [--channels-last] [--case resnet] [--out FILE]
    python benchmarks/models.py --switches    our nets eager against channels-last and against bf16 autocast

Both sides run in one process on the same random pictures, in pairs back to back (see pairs.py). A step is forward,
cross entropy, backward and SGD with momentum; inference is one pass without gradients. On a CPU pictures and batches
are small; on CUDA the paper's sizes, 64 pictures.
Criterion: exit code 3 where the lower end of an interval exceeds 1.02, that is, where ours is slower beyond doubt.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pairs
import torch
import torch.nn.functional as F
import torchvision
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


def compared(ours: Side, other: Side, args: argparse.Namespace) -> dict[str, pairs.Row]:
    """A training step and a pass."""
    rows = {}
    for what, training in (("step", True), ("inference", False)):
        works = []
        for side in (ours, other):
            side.net.train(training)
            works.append(side.step if training else side.infer)
        rows[what] = pairs.compare(*works, ours.device, args.pairs, args.repeats)
    return rows


def batch(size: int, number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    x = torch.randn(number, 3, size, size, device=device)
    return x, torch.randint(0, 1000, (number,), device=device)


def measured(args: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, dict[str, pairs.Row]]]:
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
            yield f"{name} against torchvision's {other}", compared(one, two, args)
            continue
        for switch, settings in (("channels-last", ("32", True)), ("bf16", ("bf16", False))):
            one, two = ours(*settings), ours("32", False)
            yield f"{name}, {switch} against eager", compared(one, two, args)


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
    print(pairs.HEADER)
    for case, found in measured(args, device):
        rows[case] = found
        for what, row in found.items():
            print(pairs.shown(f"{case}, {what}", row), flush=True)
    slower = [f"{case}, {what}" for case, row in rows.items() for what in row if pairs.slower(row[what])]
    result = {
        **pairs.machine(device),
        "torchvision": torchvision.__version__,
        "precision": "the switch" if args.switches else args.precision,
        "channels_last": "the switch" if args.switches else args.channels_last,
        "pairs": args.pairs,
        "repeats": args.repeats,
        "cases": rows,
        "criterion": None if args.switches else f"no interval's lower end above {pairs.LIMIT}",
        "holds": None if args.switches else not slower,
    }
    kind = "switches" if args.switches else "models"
    pairs.write(args.out or Path(f"results/benchmarks/{kind}-{device.type}.json"), result)
    if slower and not args.switches:
        print(f"slower than torchvision's beyond doubt: {'; '.join(slower)}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
