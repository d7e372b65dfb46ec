"""Probes within runs, and runs that train nothing: what is measured is kept and drawn, and changes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Said, assert_same, curves, one_line

from dl_zoo import checkpoints, compose, load_run
from dl_zoo.run import run

DEEP = ["model=mlp", "model.width=16", "model.depth=4", "data.batch_size=128", "trainer=cpu", "pictures=false"]
BOTH = ["probe=[gradient_flow,symmetry]", "probe.gradient_flow.items=64", "probe.symmetry.items=64"]


def test_probes_are_kept_in_the_metrics_and_drawn_by_layer() -> None:
    result = run(compose.compose([*DEEP, *BOTH, "trainer.max_epochs=1"]))
    assert {
        "probe/gradient_slope",
        "probe/gradient/01",
        "probe/gradient/04",
        "probe/unit_spread",
    } <= result.metrics.keys()
    drawn = curves(result.folder)
    layers = [(place, pytest.approx(result.metrics[f"probe/gradient/{place:02}"])) for place in (1, 2, 3, 4)]
    assert drawn["probe/gradient"] == layers  # a curve over the layers
    assert drawn["probe/unit_spread"][0][1] == pytest.approx(result.metrics["probe/unit_spread"])


def test_a_run_does_not_notice_its_probes() -> None:
    """Weights, optimizer and random states are those of a run without, also where the run itself draws (dropout)."""
    words = [*DEEP, "trainer.max_epochs=2", "regularizer=[dropout]", "logger=none"]
    with_probes, without = run(compose.compose([*words, *BOTH])), run(compose.compose(words))
    one, other = (checkpoints.read(each.folder / "checkpoints" / "last.ckpt") for each in (with_probes, without))
    for checkpoint in (one, other):
        del checkpoint["dl_zoo"]
    assert_same(one, other)
    shared = {key: value for key, value in with_probes.metrics.items() if not key.startswith("probe/")}
    assert shared == without.metrics


def test_a_continued_run_measures_its_start_as_the_unbroken_one() -> None:
    words = [*DEEP, *BOTH, "logger=none", "run_dir=r"]
    run(compose.compose([*words, "trainer.max_epochs=1"]))
    longer = run(compose.compose([*words, "trainer.max_epochs=2", "resume=auto"]))
    unbroken = run(compose.compose([*words[:-1], "trainer.max_epochs=2", "run_dir=s"]))
    assert longer.metrics == unbroken.metrics


def test_no_epochs_measure_the_net_as_it_was_built(cli: Callable[..., Said]) -> None:
    result = run(compose.compose([*DEEP, "trainer.max_epochs=0", "scheduler=onecycle", "run_dir=r", "seed=3"]))
    assert result.status == "finished"
    assert result.metrics["step"] == 0
    assert result.metrics["test/error"] > 0.5
    loaded = load_run("r").net
    torch.manual_seed(0)
    fresh = run(compose.compose([*DEEP, "trainer.max_epochs=0", "logger=none", "seed=3"]))
    assert_same(loaded.state_dict(), load_run(fresh.folder).net.state_dict())
    assert cli("evaluate", "r").code == 0
    assert cli("check", *DEEP, "trainer.max_epochs=0").out.count("training     none") == 1


def test_a_net_without_parameters_is_measured_and_not_trained(cli: Callable[..., Said]) -> None:
    words = ["model=threshold_unit", "data=logic_gates", "trainer=cpu"]
    expected = "dl-zoo: this net has no parameter that learns; trainer.max_epochs=0 measures it as it is"
    assert one_line(cli("train", *words)) == expected
    assert one_line(cli("check", *words)) == expected
    said = cli("train", *words, "trainer.max_epochs=0")
    assert said.code == 0, said
    assert "test/acc     1.0000" in said.err
    assert cli("check", *words, "trainer.max_epochs=0").code == 0


MISTAKEN = {
    "probe.gradient_flow.at=middle: must be start or end": ["probe=[gradient_flow]", "probe.gradient_flow.at=middle"],
    "probe=gradient_flw: there is no such probe; did you mean gradient_flow?": ["probe=[gradient_flw]"],
    "probe.size.at: probe size is not picked; add probe=[size]": ["probe.size.at=end"],
    "probe.size.at=0: must be start or end": ["probe=[size]", "probe.size.at=0"],
    "probe.symmetry.items=many: must be a number": ["probe=[symmetry]", "probe.symmetry.items=many"],
}


@pytest.mark.parametrize("line", MISTAKEN)
def test_a_mistaken_probe_is_told_in_one_line(line: str, cli: Callable[..., Said]) -> None:
    assert one_line(cli("train", *DEEP, *MISTAKEN[line], "trainer.max_epochs=1")) == f"dl-zoo: {line}"
    assert f"dl-zoo: {line}" in cli("check", *DEEP, *MISTAKEN[line]).err
    assert not Path("runs").exists()


def test_a_probe_that_does_not_fit_the_data_costs_no_training(cli: Callable[..., Said]) -> None:
    line = "probe=novikoff: the theorem is of two classes, and these data have 10"
    assert one_line(cli("check", *DEEP, "probe=[novikoff]")) == f"dl-zoo: {line}"
    said = cli("train", *DEEP, "probe=[novikoff]", "trainer.max_epochs=1")
    assert said.code == 0
    assert f"{line}; left out" in said.err
