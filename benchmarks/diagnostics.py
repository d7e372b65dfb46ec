"""What a step that `diagnostics=true` records costs over one that it does not: python benchmarks/diagnostics.py

Pairs in turns on one thread, in alternating order; medians, written to results/benchmarks/diagnostics.json.
"""

import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from dl_zoo import create_model
from dl_zoo.callbacks.diagnostics import Recording

FILE = Path(__file__).parent.parent / "results" / "benchmarks" / "diagnostics.json"
CASES = {"lenet5, batch 128": ("lenet5", 32, 128), "mlp, 2 x 800, batch 32": ("mlp", 28, 32)}
PAIRS = 100


def measured(name: str, size: int, batch: int) -> dict[str, float]:
    torch.manual_seed(0)
    net = create_model(name)
    optimizer = torch.optim.Adam(net.parameters())
    inputs, targets = torch.rand(batch, 1, size, size), torch.randint(10, (batch,))

    def step(recorded: bool) -> float:
        started = time.perf_counter()
        recording = Recording(net) if recorded else None
        loss = F.cross_entropy(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        if recording:
            recording.see_gradients()
        optimizer.step()
        if recording:
            recording.stop()
            recording.read()
        return 1000 * (time.perf_counter() - started)

    for _ in range(10):
        step(True), step(False)
    pairs = [[step(number % 2 == 0), step(number % 2 == 1)][:: 1 if number % 2 else -1] for number in range(PAIRS)]
    return {
        "step_ms": round(statistics.median(plain for plain, _ in pairs), 2),
        "extra_ms": round(statistics.median(recorded - plain for plain, recorded in pairs), 2),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = {
        "device": f"cpu, 1 thread, {platform.machine()}",
        "torch": torch.__version__,
        "pairs": PAIRS,
        "cases": {case: measured(*what) for case, what in CASES.items()},
    }
    FILE.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
