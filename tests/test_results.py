"""What is stored of claims: judged again without training it gives the same verdicts, and the tables say no other."""

import subprocess
import sys
from pathlib import Path

import pytest

from dl_zoo.claims import card, figure, report, result

ROOT = Path(__file__).parent.parent


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / result.RESULTS).glob("*.json")))
def test_every_stored_result_holds(name: str) -> None:
    """Judged again without training: the same verdict as is written there, and the sabotage is REFUTED."""
    content = result.read(result.RESULTS / f"{name}.json")
    assert content["id"] in card.ids()
    judged = result.judged(content)
    assert judged.words == content["verdict"]
    assert judged.verdict != "ERROR"
    assert judged.sabotage == content["sabotage_verdict"] == "REFUTED"
    assert set(content["card"]["seeds"]).isdisjoint(content["card"]["calibration"]["seeds"])
    assert content["seconds"] < {"cpu": 600, "long": 7200, "cuda": 7200}[content["tier"]]


@pytest.mark.usefixtures("at_root")
def test_results_md_says_what_is_stored() -> None:
    assert (ROOT / "RESULTS.md").read_text(encoding="utf-8") == report.results_page(), "run: make tables"


@pytest.mark.usefixtures("at_root")
def test_judging_everything_takes_no_torch_and_three_seconds() -> None:
    code = (
        "import sys, time; from dl_zoo.commands.judge import main; code = main([]); "
        "assert not {'torch', 'pytorch_lightning'} & sys.modules.keys(); print(time.process_time()); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3, 4), done.stderr
    assert float(done.stdout.splitlines()[-1]) < 3.0


@pytest.mark.parametrize("id", card.ids())
def test_a_shipped_card_has_seeds_enough(id: str) -> None:
    """Five at tier cpu, three at long; an identity needs no statistics."""
    sound = card.read(id)
    for tier, least in (("cpu", 5), ("long", 3)):
        if tier in sound.content["tiers"] and not sound.is_identity():
            assert len(sound.seeds(tier)) >= least


@pytest.mark.usefixtures("at_root")
def test_values_that_span_decades_may_be_drawn_by_their_logarithm(tmp_path: Path) -> None:
    content = result.read(result.RESULTS / "c05_divergence_threshold.cpu.json")
    asked = {"kind": "values", "metric": "val/loss", "log": True}
    axes = figure.figure({**content, "card": {**content["card"], "figure": asked}}).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
