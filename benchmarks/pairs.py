"""Two works timed in one process, in pairs back to back; which goes first alternates.

Reported: the median over the pairs of the ratio ours / other, with its 95 % interval by the sign test (order
statistics, exact). Ours is slower beyond doubt where the lower end of that interval exceeds `LIMIT`.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binom

LIMIT = 1.02
WARM_UP = 3
HEADER = f"{'':48}{'ours':>9}{'other':>9}  ratio  95 % interval"
Row = dict[str, float]
Work = Callable[[], None]


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def interval(values: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """Of the median: the order statistics between which the sign test leaves it."""
    values, n = sorted(values), len(values)
    below = int(binom.ppf((1 - confidence) / 2, n, 0.5))  # so many at each end may be left out, less one
    return values[max(below - 1, 0)], values[min(n - below, n - 1)]


def seconds(work: Work, repeats: int, device: torch.device) -> float:
    began = now(device)
    for _ in range(repeats):
        work()
    return (now(device) - began) / repeats


def compare(ours: Work, other: Work, device: torch.device, pairs: int, repeats: int) -> Row:
    works = (ours, other)
    times: tuple[list[float], list[float]] = ([], [])
    for work in works:
        seconds(work, WARM_UP, device)
    for number in range(pairs):
        first = number % 2  # who goes first changes, so that neither gets the warmer machine
        for place in (first, 1 - first):
            times[place].append(seconds(works[place], repeats, device))
    ratios = [a / b for a, b in zip(*times, strict=True)]
    low, high = interval(ratios)
    medians = {"ours_ms": 1e3 * statistics.median(times[0]), "other_ms": 1e3 * statistics.median(times[1])}
    return {**medians, "ratio": statistics.median(ratios), "low": low, "high": high}


def shown(name: str, row: Row) -> str:
    """A line below HEADER."""
    times = f"{row['ours_ms']:9.2f}{row['other_ms']:9.2f}  {row['ratio']:5.3f}"
    return f"{name:48}{times}  {row['low']:.3f} to {row['high']:.3f}"


def slower(row: Row) -> bool:
    return row["low"] > LIMIT


def machine(device: torch.device) -> dict[str, str]:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(out: Path, result: Mapping[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + os.linesep)
