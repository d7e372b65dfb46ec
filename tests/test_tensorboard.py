"""TensorBoard as people look at it: what a headless Chromium shows of runs and of a claim's arms."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from tornado.websocket import WebSocketClientConnection, websocket_connect

from dl_zoo import reproduce
from dl_zoo.claims import card
from dl_zoo.compose import compose
from dl_zoo.run import run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
    pytest.mark.timeout(300),
]
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync --window-size=1400,1000"
# Every text that is shown, also inside of TensorBoard's own elements, and whether pictures have arrived.
TEXT = """(() => {
  const lines = [];
  const walk = node => {
    if (["STYLE", "SCRIPT"].includes(node.tagName)) return;
    if (node.tagName === "IMG") lines.push(`picture ${node.complete && node.naturalWidth > 8}`);
    if (node.nodeType === Node.TEXT_NODE && node.textContent.trim()) lines.push(node.textContent.trim());
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.body);
  return lines;
})()"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that differ in their optimizer, one that writes text, and a claim."""
    here = tmp_path_factory.mktemp("looked_at")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for optimizer in ("adam", "sgd"):
            run(compose([*SMALL, f"optimizer={optimizer}", f"run_dir=runs/lenet5/{optimizer}"]), quiet=True)
        short = [f"trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
        words = [
            "model=gpt_char",
            "data=python_docs",
            "trainer=cpu",
            "trainer.max_epochs=1",
            "run_dir=runs/gpt",
            *short,
        ]
        run(compose(words), quiet=True)
        reproduce.carry_out(reproduce.plan(card.read("c01_threshold_xor"), "smoke"))
    return here / "runs"


@contextmanager
def serving(runs: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            found = next(filter(None, (re.search(r"at (http://\S+/)", line) for line in server.stdout)))
            yield found[1]
        finally:
            server.terminate()


@contextmanager
def browsing(profile: Path) -> Iterator[str]:
    """The address under which the browser's page is told what to do (Chrome DevTools Protocol)."""
    command = [str(CHROMIUM), *FLAGS.split(), f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            port = profile / "DevToolsActivePort"
            until(lambda: port.exists() and port.read_text().strip())
            with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as answer:
                yield next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")
        finally:
            browser.terminate()


def until(condition: Any, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the browser did not start"
        time.sleep(0.05)


async def opened(place: str) -> WebSocketClientConnection:
    return await websocket_connect(place, max_message_size=1 << 26)


async def told(page: WebSocketClientConnection, method: str, **parameters: Any) -> Any:
    await page.write_message(json.dumps({"id": 1, "method": method, "params": parameters}))
    while (answer := json.loads(str(await page.read_message()))).get("id") != 1:
        pass
    return answer["result"]


async def shown(page: WebSocketClientConnection, address: str, *awaited: str, seconds: float = 60) -> list[str]:
    """The lines of a page once all of `awaited` are among them; after `seconds` whatever is there."""
    await told(page, "Page.navigate", url="about:blank")
    await told(page, "Page.navigate", url=address)
    lines: list[str] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not set(awaited) <= set(lines):
        await asyncio.sleep(0.25)
        answer = await told(page, "Runtime.evaluate", expression=TEXT, returnByValue=True)
        lines = answer["result"].get("value") or []
    return lines


async def left(page: WebSocketClientConnection) -> None:
    page.close()
    while await page.read_message() is not None:
        pass


@pytest.fixture(scope="module")
def look(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`look("scalars", "val/loss")`: the lines of that dashboard, once these are among them."""
    with serving(runs) as address, browsing(tmp_path_factory.mktemp("profile")) as place, asyncio.Runner() as loop:
        page = loop.run(opened(place))
        yield lambda dashboard, *awaited: loop.run(shown(page, f"{address}#{dashboard}", *awaited))
        loop.run(left(page))


def test_two_runs_overlay_on_the_same_tags(look: Any) -> None:
    known = {"lenet5/adam", "lenet5/sgd", "train/loss", "test/acc", "val"}  # whose charts are below the screen
    lines = look("scalars", *known)
    assert known <= set(lines)
    cards = [line for before, line in pairwise(lines) if before == "tag:"]
    assert cards.count("train/loss") == 1, "one chart for all runs"


def test_the_table_of_hyperparameters_is_filled(look: Any) -> None:
    lines = look("hparams", "optimizer", "test/acc", "lenet5/sgd", "SGD", "Adam")
    header = lines.index("Show Metrics") if "Show Metrics" in lines else -1
    table = lines[header:]
    for name, optimizer in (("lenet5/adam", "Adam"), ("lenet5/sgd", "SGD")):
        assert name in table
        assert optimizer in lines
        row = table[table.index(name) + 1 :][:12]
        assert {"Digits", "LeNet5"} <= set(row)
        assert any(re.fullmatch(r"0\.\d+", cell) for cell in row), "its accuracy"


def test_pictures_arrive(look: Any) -> None:
    lines = look("images", "activations/c1", "picture true")
    assert "picture true" in lines
    assert "picture false" not in lines


def test_texts_are_read(look: Any) -> None:
    lines = look("text", "gpt", "generated/text/text_summary")
    assert any("The net begins" in line for line in lines)


def test_the_arms_of_a_claim_stand_together(look: Any) -> None:
    lines = look("timeseries", "Run", "lenet5/adam")
    names = [line for line in lines if line.startswith("claims/")]
    arms = ("majority", "sabotage-xor", "xor")
    assert list(dict.fromkeys(names)) == [f"claims/c01_threshold_xor.smoke/{arm}/seed0" for arm in arms]


def test_event_files_stay_small(runs: Path) -> None:
    assert all(file.stat().st_size < 1_000_000 for file in runs.rglob("events.out.tfevents.*"))
