"""Every notebook runs as it stands, from any folder; what is committed has its outputs and names no machine."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
FIRST = NOTEBOOKS[0]
TIMES = [pytest.param(each, id=each.stem, marks=[] if each == FIRST else pytest.mark.slow) for each in NOTEBOOKS]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text(output: Any) -> str:
    """What a reader sees of it besides pictures."""
    shown = [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join([output.get("text", ""), *shown, *output.get("traceback", [])])


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def cards(notebook: Any) -> list[str]:
    """Claims of the table that ends it."""
    return re.findall(r"^\| `(\w+)` \|.*\*\*[A-Z].*\*\* \|$", text(outputs(notebook)[-1]), re.MULTILINE)


def test_there_is_one_a_part_of_the_article() -> None:
    assert [each.name[:2] for each in NOTEBOOKS] == [f"{n:02}" for n in range(1, 10)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_committed_notebook_is_executed_small_and_names_no_machine(path: Path) -> None:
    assert path.stat().st_size < 250_000
    notebook = nbformat.read(path, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert pictures(notebook) >= 1
    said = "\n".join(map(text, outputs(notebook)))
    assert not re.findall(r"(?<![\w.])/(?:tmp|home|root|work|Users|private|var|usr|opt)\b\S*", said)
    assert "Warning" not in said
    assert cards(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_verdict_cards_are_those_of_the_results(path: Path) -> None:
    """The last cell alone, so that a notebook does not go on showing what was judged before."""
    from dl_zoo import look

    notebook = nbformat.read(path, as_version=4)
    source = notebook.cells[-1].source
    assert source.startswith("look.verdicts("), source
    assert eval(source, {"look": look}) == notebook.cells[-1].outputs[0]["data"]["text/markdown"], "run it again"


@pytest.mark.parametrize("path", TIMES)
def test_the_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    here.mkdir(), scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))  # where the notebook makes its runs
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # on a busy machine two threads of a net this small wait for one another
    notebook = nbformat.read(path, as_version=4)
    committed = pictures(notebook), cards(notebook)
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": here}}).execute()
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert (pictures(notebook), cards(notebook)) == committed
    assert not list(here.iterdir())
