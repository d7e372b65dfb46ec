"""What does the trainer cost a step, over a loop that one would write by hand for the same net, batch and data?

    python benchmarks/loop_overhead.py [--repeats 7] [--steps 200] [--out results/benchmarks/loop_overhead.json]

Both sides run in one process, in turns: by hand, through `dl_zoo.run.run` with its default metrics, logging, progress
and checkpoints, by hand, ... A repeat times `--steps` steps after a warm-up, inside one epoch. The overhead is the
median over repeats of (ours - by hand), each pair measured back to back. Pictures are random.
Criterion: at most 0.6 ms a step, and at most 5 % where the step by hand takes 20 ms or more.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from dl_zoo import compose, run, trust
from dl_zoo.data.digits import Digits
from dl_zoo.optimizers import build_optimizer

CASES = {  # overrides of each pair; the nets' own sizes, from a step far below Lightning's cost to one far above
    "mlp, 2 x 128, batch 32": ["model=mlp", "model.width=128", "data.batch_size=32"],
    "lenet5, batch 32": ["model=lenet5", "data.batch_size=32"],
    "lenet5, batch 128": ["model=lenet5", "data.batch_size=128"],
    "lenet5, batch 1024": ["model=lenet5", "data.batch_size=1024"],
    "mlp, 2 x 800 on 1024 inputs, batch 512": ["model=mlp", "data.image_size=32", "data.batch_size=512"],
    "vae, 784-400-20, batch 100": ["model=vae", "data.image_size=28", "data.batch_size=100"],
}
WARM_UP = 30


class Stopwatch(pl.Callback):
    """Seconds a step between the end of the warm-up and `steps` later."""

    def __init__(self, steps: int):
        self.steps, self.began, self.seconds = steps, 0.0, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == WARM_UP:
            self.began = now(trainer.strategy.root_device)
        elif trainer.global_step == WARM_UP + self.steps:
            self.seconds = (now(trainer.strategy.root_device) - self.began) / self.steps


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def ours(overrides: list[str], steps: int, folder: Path) -> float:
    watch, callbacks = Stopwatch(steps), run.build_callbacks
    run.build_callbacks = lambda *args: [*callbacks(*args), watch]
    try:
        cfg = compose.compose([*overrides, f"trainer.max_steps={WARM_UP + steps}", f"run_dir={folder}"])
        run.run(cfg)
    finally:
        run.build_callbacks = callbacks
    return watch.seconds


def by_hand(overrides: list[str], steps: int, device: torch.device) -> float:
    cfg = compose.compose(overrides)
    data = trust.build(cfg.data)
    data.setup()
    cfg = compose.resolve(cfg, data.dims)
    net = trust.build(cfg.model).to(device).train()
    optimizer = build_optimizer(cfg.optimizer)(net.parameters())
    data.splits["train"] = tuple(t.to(device) for t in data.splits["train"])
    loader = data.loader("train", shuffle=True)
    loss_of = bound if cfg.model._target_.endswith("VAE") else cross_entropy
    began = 0.0
    for step, (x, y) in enumerate(loader, 1):
        loss = loss_of(net, x, y, data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == WARM_UP:
            began = now(device)
        if step == WARM_UP + steps:
            break
    return (now(device) - began) / steps


def cross_entropy(net: Any, x: torch.Tensor, y: torch.Tensor, data: Any) -> torch.Tensor:
    return F.cross_entropy(net(x), y)


def bound(net: Any, x: torch.Tensor, y: torch.Tensor, data: Any) -> torch.Tensor:
    """The evidence bound as a page of code has it; pixels come back to 0..1, since the loader normalises them."""
    x = (x * data.normalisation["std"][0] + data.normalisation["mean"][0]).clamp(0, 1)
    logits, mean, log_variance = net(x)
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
    return (reconstruction + divergence) / len(x)


def measure(overrides: list[str], repeats: int, steps: int, device: torch.device) -> dict[str, float]:
    pairs = []
    for number in range(repeats):
        with tempfile.TemporaryDirectory() as scratch:
            sides = [lambda: by_hand(overrides, steps, device), lambda: ours(overrides, steps, Path(scratch) / "run")]
            first = number % 2  # who goes first changes, so that neither gets the warmer machine
            times = {side: sides[side]() for side in (first, 1 - first)}
            pairs.append((times[0], times[1]))
    extra = sorted(b - a for a, b in pairs)
    return {
        "by_hand_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "ours_ms": 1e3 * statistics.median(b for _, b in pairs),
        "overhead_ms": 1e3 * statistics.median(extra),
        "overhead_ms_low": 1e3 * extra[0],
        "overhead_ms_high": 1e3 * extra[-1],
        "ratio": statistics.median(b / a for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--case", help="only the cases whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/loop_overhead.json"))
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = {name: overrides for name, overrides in CASES.items() if (args.case or "") in name}
    items = max(int(o.rsplit("=", 1)[1]) for c in cases.values() for o in c if "batch" in o) * (
        WARM_UP + args.steps + 1
    )
    Digits.read = lambda self: {  # type: ignore[method-assign]
        split: (torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 10, (n,)))
        for split, n in (("train", items), ("val", 64), ("test", 64))
    }
    rows = {}
    for name, overrides in cases.items():
        rows[name] = measure(overrides, args.repeats, args.steps, device)
        print(name, {k: round(v, 3) for k, v in rows[name].items()}, flush=True)
    result = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "repeats": args.repeats,
        "steps": args.steps,
        "cases": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + os.linesep)


if __name__ == "__main__":
    main()
