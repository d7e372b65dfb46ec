"""The documentation's site: what its generated pages say, and, slowly, that it builds without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dl_zoo.options import names

ROOT = Path(__file__).parent.parent


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(ROOT)  # where results/ is
    monkeypatch.syspath_prepend(ROOT / "docs" / "_site")
    import pages

    return pages


def test_a_models_page_has_its_net_and_its_claims(pages: Any) -> None:
    page = pages.model_page("lenet5", {id: pages.of_claim(id) for id in names("claim")})
    assert "61,706 parameters" in page
    assert "| c3 | Conv2d | 16 x 10 x 10 | 2,416 |" in page
    assert "| activation | relu | or tanh, which is near the paper's; sigmoid |" in page
    assert "weights=zoo:lenet5-mnist" in page
    assert re.search(r"\[c12_lenet5_mnist\]\(../claims/c12_lenet5_mnist.md\) \| .* \| CONFIRMED", page)
    assert page.count("<rect") == 7 + 3, "seven layers, and three kinds in the legend"


def test_a_net_without_layers_has_a_page_without_a_drawing(pages: Any) -> None:
    page = pages.model_page("tied_linear", {id: [] for id in names("claim")})
    assert "<svg" not in page
    assert "| copies |" in page


def test_a_claims_page_has_the_verdict_and_every_seed(pages: Any) -> None:
    page = pages.claim_page("c08_xavier_30_layers", pages.of_claim("c08_xavier_30_layers"))
    assert "## CONFIRMED AT REDUCED SCALE" in page
    assert "| REFUTED, he broken |" in page
    row = next(line for line in page.splitlines() if line.startswith("| he | `train/acc` |"))
    assert len(re.findall(r"0\.9\d+", row)) == 5
    assert "dl-zoo reproduce claim=c08_xavier_30_layers tier=cpu" in page
    assert "![" in page


def test_a_claim_that_was_not_run_says_so(pages: Any) -> None:
    assert "## INCONCLUSIVE (not run)" in pages.claim_page("c08_xavier_30_layers", [])


def test_the_links_of_pages_written_by_hand_lead_somewhere() -> None:
    made = {f"{folder}/index.md" for folder in ("models", "claims")}
    made |= {f"models/{name}.md" for name in names("model")} | {f"claims/{id}.md" for id in names("claim")}
    docs = ROOT / "docs"
    for page in docs.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            assert path.exists() or path.relative_to(docs).as_posix() in made, f"{page.name}: {target}"


def test_the_menu_names_pages_that_there_are() -> None:
    def under(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for each in (entry.values() if isinstance(entry, dict) else entry) for page in under(each)]

    menu = under(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    made = {"models/index.md", "claims/index.md", *notebooks}
    assert set(menu) == written | made, "each page is in the menu, and no other"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert said.returncode == 0, said.stderr
    assert "WARNING" not in said.stderr
    assert {path.stem for path in (tmp_path / "site" / "models").glob("*.html")} == {"index", *names("model")}
    fetched = re.findall(
        r'(?:src|href)="(https?:[^"]*)"', (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    )
    assert all("squidfunk" in address for address in fetched), "nothing is fetched from elsewhere"
