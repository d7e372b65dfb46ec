"""README says what is: its tables are those that results/ gives, and its commands are commands."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from pydoc import locate

import pytest
from conftest import Said

from dl_zoo import options
from dl_zoo.claims.card import NEEDED
from dl_zoo.pretrained import officially
from dl_zoo.sweep import compose_each_value

ROOT = Path(__file__).parent.parent


@pytest.mark.usefixtures("at_root")
def test_the_tables_are_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import tables

    texts = [page.read_text(encoding="utf-8") for page in tables.pages()]
    assert sum(text.count("<!-- table:") for text in texts) == len(tables.TABLES)
    for text in texts:
        assert tables.written(text) == text, "run: python benchmarks/tables.py"


def test_the_pages_are_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import tables

    for name, page in {"parity": tables.parity_page, "text": tables.text_page}.items():
        found = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert page() == found, "run: python benchmarks/tables.py"


def test_every_net_that_reads_others_weights_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import parity
    import tables

    rows = tables.load("parity")
    assert rows.keys() == parity.CASES.keys(), "run: python benchmarks/parity.py --only ..."
    assert [name for name, row in rows.items() if not row["holds"]] == []
    beside: dict[str, set[str]] = {"torchvision": set(), "Hugging": set()}
    for row in rows.values():
        beside.setdefault(re.split("['. ]", row["other"])[0], set()).add(row["model"])
    assert set(officially()) <= beside["torchvision"]
    targets = {model: options.read("model", model)["_target_"] for model in options.names("model")}
    adopting = {target for target in targets.values() if hasattr(locate(target), "adopted")}
    assert adopting == {targets[model] for model in beside["Hugging"]}


PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "gallery.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]


def commands() -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith(("dl-zoo train", "python train.py"))))


@pytest.mark.parametrize("command", commands())
def test_the_training_commands_of_readme_and_how_tos_compose(command: str, cli: Callable[..., Said]) -> None:
    """Each is composed in full; `--cfg job` stops it before it trains."""
    words = shlex.split(command)
    words = words[2:] if words[0] in ("dl-zoo", "python") else words
    if any(word.startswith(("resume=runs", "--config-dir", "weights=runs")) for word in words):  # the guide's: below
        pytest.skip("names a folder of one's own")
    if "-m" in words:
        assert compose_each_value([word for word in words if word != "-m"], [])[0]
        return
    assert cli("train", "--cfg", "job", *words).code == 0


def transcripts() -> list[str]:
    blocks = re.findall(r"```\n(\$ dl-zoo.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    return blocks


@pytest.mark.parametrize("transcript", transcripts())
def test_the_answers_shown_in_readme_are_those_given(transcript: str, cli: Callable[..., Said]) -> None:
    command, _, answer = transcript.partition("\n")
    said = cli(*shlex.split(command.removeprefix("$ dl-zoo ")))
    assert said.out + said.err == answer


def test_makefile_targets_of_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^(?:\| )?make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert sys.version_info >= (3, 11)


def test_the_card_of_the_guide_is_a_claim_that_holds(cli: Callable[..., Said]) -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    Path("mine/claim").mkdir(parents=True)
    text = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]  # type: ignore[index]
    Path("mine/claim/mine.yaml").write_text(text.replace("seeds: [0, 1, 2, 3, 4]", "seeds: [0, 1]"))
    said = cli("reproduce", "claim=mine", "--config-dir", "mine")
    assert said.code == 0, said
    assert "verdict    CONFIRMED" in said.out
    assert all(f"`{kind}`" in page for kind in NEEDED)


def test_the_model_and_the_dataset_of_the_guide_train(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block of the page as it stands, in the file that it is said to be."""
    page = (ROOT / "docs" / "how-to" / "add.md").read_text(encoding="utf-8")
    python, yamls = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "yaml"))
    files = re.findall(r"`(my_[\w/]+\.(?:py|yaml))`", page)
    for name, text in zip(files, [python[0], yamls[0], python[1], yamls[1]], strict=True):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(Path.cwd())
    runs = re.findall(r"^dl-zoo (train .*)$", page, re.MULTILINE)
    assert len(runs) == 2
    for line in runs:
        said = cli(*shlex.split(line), "trainer.max_epochs=1", "logger=none", "pictures=false")
        assert said.code == 0, said
        assert "test/acc" in said.err
