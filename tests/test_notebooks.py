"""The first notebook runs as it stands, from any folder; what is committed has its outputs and names no machine."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "01_train_look_evaluate.ipynb"


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text(output: Any) -> str:
    """What a reader sees of it besides pictures."""
    shown = [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join([output.get("text", ""), *shown, *output.get("traceback", [])])


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_the_committed_notebook_is_executed_small_and_names_no_machine() -> None:
    assert NOTEBOOK.stat().st_size < 400_000
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert pictures(notebook) >= 4
    said = "\n".join(map(text, outputs(notebook)))
    assert not re.findall(r"(?<![\w.])/(?:tmp|home|root|work|Users|private|var|usr|opt)\b\S*", said)
    assert "Warning" not in said


def test_the_first_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    here.mkdir(), scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))  # where the notebook makes its runs
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # on a busy machine two threads of a net this small wait for one another
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    committed = pictures(notebook)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": here}}).execute()
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert pictures(notebook) == committed
    assert not list(here.iterdir())
