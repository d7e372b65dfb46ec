"""Every command of README and the how-tos is carried out: who copies a line must not be the first to try it.

A page is read from its top and its lines are given to bash as they stand, in a folder of the page's own, with `dl-zoo`
as it is installed. What is done to them is in the tables below: training is cut short by words added at the end, a
stamp is replaced by that of the run which an earlier line of the page left, and files that a reader would bring are
generated. A line that no table knows fails, so that a new command cannot be documented without being run.
"""

import contextlib
import hashlib
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import dl_zoo
from dl_zoo import trust
from dl_zoo.compose import compose

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/index.md", "docs/claims.md", "docs/gallery.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "how-to").glob("*.md"))
STAMPED = re.compile(r"runs/([^/\s]+)/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")

# Lines that make or need an environment of their own: a clone's tests are run by what these have made.
ELSEWHERE = {
    "make train": "by who clones; what it trains is a line of README",
    "make test": "it would run this file",
    "python3 -m venv .venv && . .venv/bin/activate": "tests/test_wheel.py makes an environment, at a release",
    "pip install -c constraints.txt -e '.[dev]'": "tests/test_wheel.py installs, at a release",
}
SHORT = "trainer.max_epochs=1 trainer.limit_train_batches=4 trainer.limit_val_batches=2 trainer.limit_test_batches=2"
# What is added to a line: that of the first pattern found in it. A line in which none is found is not known, and fails.
ADDED = {
    r"^dl-zoo train resume=": "",  # other words would be another configuration, and resume nothing
    r"^python train\.py trainer=smoke$": "",
    r"^dl-zoo train experiment=memory_probe ": "",  # trains nothing
    r"^(dl-zoo train|python train\.py) ": SHORT,
    r"^dl-zoo reproduce claim=\w+$": "tier=smoke",  # every arm, a few steps; nothing is judged
    r"^dl-zoo reproduce claim=all --(dry-run|recheck)$": "",
    r"^dl-zoo (evaluate|predict|sample|export|compare|find-lr|claims|check|judge) ?": "",
    r"^tensorboard --logdir ": "--port 0",
}
CODES = {"judge": (0, 3, 4)}  # of another command 0; judge leaves with 3 where a stored claim is REFUTED
IN_CLONE = ("claims", "check", "judge")  # they read results/ and configs/ of the clone, and write nothing


@dataclass
class Command:
    page: str
    number: int
    line: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line)

    @property
    def kind(self) -> str:
        program, *rest = self.words
        return "train" if rest[:1] == ["train.py"] else rest[0] if program == "dl-zoo" else program

    @property
    def trains(self) -> bool:
        return self.kind == "train"

    @property
    def added(self) -> str | None:
        return next((words for pattern, words in ADDED.items() if re.search(pattern, self.line)), None)

    def __str__(self) -> str:
        return f"{self.page}-{self.number}-{self.line}"


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def commands(page: str) -> list[Command]:
    blocks = re.findall(r"^```bash\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    lines = [re.sub(r"\s+# .*", "", line).strip() for line in lines]
    return [Command(page, number, line) for number, line in enumerate(filter(None, lines))]


EVERY = [command for page in PAGES for command in commands(page)]


# ---- what a reader would bring --------------------------------------------------------------------------------------


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        colours = torch.randint(256, (6, 6, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(colours.numpy()).resize((48, 48)).save(folder / f"{number}.jpg")


def pets(here: Path) -> None:
    for kind in ("cats", "dogs"):
        pictures(here / "pets" / kind, 24)


def book(path: Path) -> None:
    words = re.findall(r"\w+", "the sea of night and fades over a light under old stones where no wind moves")
    draw = random.Random(0)
    lines = (" ".join(draw.choices(words, k=10)).capitalize() for _ in range(1500))
    path.write_text(".\n".join(lines), encoding="utf-8")


def meter(here: Path) -> None:
    rows = [
        f"2025-01-{1 + hour // 24:02d} {hour % 24:02d}:00:00,{2 + math.sin(hour / 3.8):.3f},{hour % 7}"
        for hour in range(700)
    ]
    (here / "meter.csv").write_text("\n".join(["time,kWh,volts", *rows, ""]), encoding="utf-8")


def people(here: Path) -> None:
    draw = random.Random(0)
    rows = [f"{draw.gauss(170, 9):.1f},{draw.randint(18, 80)},{draw.choice(['early', 'late'])}" for _ in range(150)]
    (here / "people.csv").write_text("\n".join(["height,age,kind", *rows, ""]), encoding="utf-8")


def houses(here: Path) -> None:
    draw = random.Random(0)
    rows = [f"h{number},{draw.randint(40, 200)},{draw.randint(1, 6)},{draw.randint(90, 900)}" for number in range(150)]
    (here / "houses.csv").write_text("\n".join(["id,area,rooms,price", *rows, ""]), encoding="utf-8")


def treebank(here: Path) -> None:
    words = {"Das": ("DET", "ART"), "alte": ("ADJ", "ADJA"), "Licht": ("NOUN", "NN"), "fällt": ("VERB", "VVFIN")}
    draw = random.Random(0)
    (here / "UD_German-GSD").mkdir()
    for split, count in {"train": 80, "dev": 20, "test": 20}.items():
        sentences = []
        for _ in range(count):
            said = draw.choices(list(words), k=draw.randint(3, 7))
            sentences += ["# text = " + " ".join(said)]
            sentences += [
                "\t".join([str(place), word, word.lower(), *words[word], "_", "0", "root", "_", "_"])
                for place, word in enumerate(said, start=1)
            ]
            sentences += [""]
        path = here / "UD_German-GSD" / f"de_gsd-ud-{split}.conllu"
        path.write_text("\n".join([*sentences, ""]), encoding="utf-8")


def sounds(here: Path) -> None:
    for number in range(2):
        with wave.open(str(here / f"heard{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            tones = (int(9000 * math.sin(step * (number + 1) / 9)) for step in range(6000))
            file.writeframes(b"".join(tone.to_bytes(2, "little", signed=True) for tone in tones))


def my_model_of_readme(here: Path) -> None:
    """Its YAML as README prints it, and a net as README describes it."""
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text("README.md"), re.DOTALL)
    (here / "my_configs/model").mkdir(parents=True)
    (here / "my_configs/model/mine.yaml").write_text(yaml, encoding="utf-8")
    (here / "my_models.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, in_features, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(in_features, num_classes))\n"
    )


def files_of_the_guide(here: Path) -> None:
    """Every block of the page as it stands, in the file that it is said to be."""
    page = text("docs/how-to/add.md")
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    for name, block in zip(re.findall(r"`(my_[\w/]+\.(?:py|yaml))`", page), blocks, strict=True):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(block, encoding="utf-8")


def stored_results(here: Path) -> None:
    """A copy, since a recheck writes into it. Of one claim, with which no run's numbers depend on the processor."""
    (here / "results/claims").mkdir(parents=True)
    shutil.copy(ROOT / "results/claims/c01_threshold_xor.cpu.json", here / "results/claims")


# What stands in a line -> who makes it, in the page's folder.
BROUGHT: dict[str, Callable[[Path], None]] = {
    "data.path=pets": pets,
    "new/*.jpg": lambda here: pictures(here / "new", 3),
    "data.path=book.txt": lambda here: book(here / "book.txt"),
    "data.path=FILE": lambda here: book(here / "FILE"),
    "meter.csv": meter,
    "people.csv": people,
    "houses.csv": houses,
    "data.path=UD_German-GSD": treebank,
    "sentences.txt": lambda here: (here / "sentences.txt").write_text("Das alte Licht fällt .\nLicht fällt\n") and None,
    "letter.de": lambda here: (here / "letter.de").write_text("ein hund läuft .\nzwei männer\n") and None,
    "'*.wav'": sounds,
    "--trust my_models": my_model_of_readme,
    "--trust my_zoo": files_of_the_guide,
    "--trust my_points": files_of_the_guide,
    "--recheck": stored_results,
    "python train.py": lambda here: shutil.copy(ROOT / "train.py", here) and None,  # or runs/ would be the clone's
}


# ---- a page, and what came of its lines -----------------------------------------------------------------------------


@dataclass
class Said:
    code: int
    out: str
    err: str


@dataclass
class Page:
    """A folder in which lines of one page are carried out, each once, and after the line whose run it is about."""

    name: str
    here: Path
    environment: dict[str, str]
    brought: set[Callable[[Path], None]] = field(default_factory=set)
    ended: dict[int, BaseException | Said] = field(default_factory=dict)

    def ran(self, command: Command) -> Said:
        """What a line said; what kept it from being run, or failed, is raised again for whoever builds on it."""
        if command.number not in self.ended:
            try:
                self.ended[command.number] = self.run(command)
            except (Exception, pytest.skip.Exception, pytest.fail.Exception) as error:
                self.ended[command.number] = error
        end = self.ended[command.number]
        if isinstance(end, BaseException):
            raise end
        return end

    def run(self, command: Command) -> Said:
        if command.added is None:
            pytest.fail(f"{command.page}: no table here says how to try {command.line!r}")
        for words, make in BROUGHT.items():
            if words in command.line and make not in self.brought:
                make(self.here)
                self.brought.add(make)
        if command.kind == "tensorboard":
            return self.looked_at(command)
        line = STAMPED.sub(lambda found: self.newest(found[1], command), f"{command.line} {command.added}")
        if command.kind == "compare":  # what it compares is left by the line above it
            self.ran(commands(self.name)[command.number - 1])
        if command.trains:
            if missing := self.missing(command):
                pytest.skip(f"not in DL_ZOO_DATA: {', '.join(missing[:3])}")
            if command.line == "dl-zoo train resume=auto":
                self.interrupt()
        return self.told(line, ROOT if command.kind in IN_CLONE else self.here)

    def told(self, line: str, where: Path) -> Said:
        done = subprocess.run(
            ["bash", "-c", line], cwd=where, env=self.environment, capture_output=True, text=True, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def newest(self, run: str, command: Command) -> str:
        """The newest run of this name, for a line that shows one with some stamp; what makes it is run before."""
        if command.line.startswith("dl-zoo train resume="):
            return str(self.interrupt().relative_to(self.here))
        makers = [each for each in commands(self.name)[: command.number] if name_of(each) == run]
        if not makers:
            pytest.fail(f"{command.page}: no line above {command.line!r} makes a run of the name {run}")
        self.ran(makers[-1])
        return str(self.stamps(run)[-1].relative_to(self.here))

    def stamps(self, run: str) -> list[Path]:
        return sorted((self.here / "runs" / run).glob("*/"), key=lambda folder: folder.stat().st_ctime_ns)

    def missing(self, command: Command) -> list[str]:
        """What this line would have to download: files of the data, named as the data name them."""
        if "--config-dir" in command.words or "resume=" in command.line:
            return []
        with contextlib.chdir(self.here):
            return list(trust.build(compose(first_values(command)).data).absent())

    def interrupt(self) -> Path:
        """A run of the defaults, stopped after its first epoch."""
        before = set(self.stamps("lenet5-digits"))
        training = subprocess.Popen(
            ["dl-zoo", "train"], cwd=self.here, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        with training:
            while not (begun := [x for x in self.stamps("lenet5-digits") if x not in before and saved(x)]):
                assert training.poll() is None, training.communicate()[0]
                time.sleep(0.02)
            training.send_signal(signal.SIGTERM)
            training.communicate()
        assert training.returncode == 128 + signal.SIGTERM
        assert not (begun[0] / "metrics.json").exists()
        return begun[0]

    def looked_at(self, command: Command) -> Said:
        """TensorBoard serves what it finds, until it is stopped."""
        if not any(self.here.glob("runs/*/*/")):
            self.told("dl-zoo train trainer=smoke", self.here)
        words = shlex.split(f"{command.line} {command.added}")
        server = subprocess.Popen(
            words, cwd=self.here, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with server:
            said = []
            assert server.stdout is not None
            for line in server.stdout:
                said.append(line)
                if found := re.search(r"at (http://\S+/)", line):
                    break
            else:
                pytest.fail("".join(said))
            try:
                tags = ""
                for _ in range(100):
                    tags = urllib.request.urlopen(f"{found[1]}data/plugin/scalars/tags", timeout=30).read().decode()
                    if "val/loss" in tags:
                        break
                    time.sleep(0.2)
            finally:
                server.terminate()
                server.communicate()
        assert "val/loss" in tags
        return Said(0, "".join(said), "")


def saved(folder: Path) -> bool:
    return (folder / "checkpoints" / "last.ckpt").is_file()


def first_values(command: Command) -> list[str]:
    """The words of a training command, of a sweep those of its first job."""
    words = [word for word in command.words[2:] if word != "-m"]
    parsed = [OverridesParser.create().parse_override(word) for word in words]
    return [
        f"{one.get_key_element()}={next(iter(one.sweep_string_iterator()))}" if one.is_sweep_override() else word
        for word, one in zip(words, parsed, strict=True)
        if not one.is_hydra_override() and not word.startswith("hydra")
    ]


def name_of(command: Command) -> str | None:
    """The folder in runs/ of a line that trains once."""
    if not command.trains or {"-m", "--config-dir"} & set(command.words) or "resume=" in command.line:
        return None
    return str(compose(first_values(command)).name)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`dl-zoo`, `python` and `tensorboard` as of an activated environment; no GPU, no network, nobody's caches."""
    scratch = tmp_path_factory.mktemp("environment")
    programs = {"dl-zoo": "-P -m dl_zoo", "python": "", "tensorboard": "-P -m tensorboard.main"}  # -P: as if installed
    (scratch / "bin").mkdir()
    for name, flags in programs.items():
        (scratch / "bin" / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {flags} "$@"\n')
        (scratch / "bin" / name).chmod(0o755)
    official_stand_in(scratch)
    data = Path(os.environ.get("DL_ZOO_DATA", "data")).absolute()
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))},
        "PATH": f"{scratch / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(scratch / "stand_in"), str(ROOT)]),
        "DL_ZOO_DATA": str(data),
        "DL_ZOO_CACHE": str(scratch / "cache"),
        "TORCH_HOME": str(scratch / "torch"),
        "CUDA_VISIBLE_DEVICES": "",
        **dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"),  # where nobody listens
        "no_proxy": "127.0.0.1,localhost",
    }


def official_stand_in(scratch: Path) -> None:
    """A ResNet-18 at random in place of torchvision's: as large, named by its digest, where a download would lie."""
    net = dl_zoo.create_model("resnet18")
    place = scratch / "torch/hub/checkpoints"
    place.mkdir(parents=True)
    torch.save(net.state_dict(), place / "new.pth")
    name = f"resnet18-{hashlib.sha256((place / 'new.pth').read_bytes()).hexdigest()[:8]}.pth"
    (place / "new.pth").rename(place / name)
    (scratch / "stand_in").mkdir()
    (scratch / "stand_in" / "sitecustomize.py").write_text(  # read by each Python as it starts
        f"""import sys
if "weights=torchvision" in sys.argv or "weights=torchvision" in sys.orig_argv:
    from torchvision.models import ResNet18_Weights
    ResNet18_Weights.IMAGENET1K_V1.value.__dict__["url"] = "http://127.0.0.1:9/{name}"
"""
    )


@pytest.fixture(scope="module")
def pages(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Page]]:
    def folder(page: str) -> Path:
        return tmp_path_factory.mktemp(re.sub(r"\W", "_", page))

    made = {page: Page(page, folder(page), environment) for page in PAGES}
    yield made
    for page in made.values():  # checkpoints of a hundred runs
        shutil.rmtree(page.here)


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", [each for each in EVERY if each.line not in ELSEWHERE], ids=str)
def test_a_documented_command_runs(command: Command, pages: Mapping[str, Page]) -> None:
    before = digests(ROOT / "results")
    page = pages[command.page]
    said = page.ran(command)
    assert said.code in CODES.get(command.kind, (0,)), said.err + said.out
    assert "Traceback" not in said.out + said.err
    assert digests(ROOT / "results") == before
    for flag, name in zip(command.words, command.words[1:], strict=False):
        if flag in ("--plot", "--output", "--out"):
            assert (page.here / name).exists(), said.err + said.out


def test_what_is_tried_elsewhere_is_still_documented() -> None:
    assert ELSEWHERE.keys() <= {command.line for command in EVERY}


@pytest.mark.parametrize("page", PAGES)
def test_commands_stand_in_blocks_that_are_read(page: str) -> None:
    fences = re.findall(r"^\s*```(\w+)", text(page), re.MULTILINE)
    assert set(fences) <= {"bash", "python", "yaml"}
    assert len(re.findall(r"^```bash\n", text(page), re.MULTILINE)) == fences.count("bash")
