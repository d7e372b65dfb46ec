"""The small commands: what they print is what is."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Said, curves, one_line

from dl_zoo import list_models
from dl_zoo.commands import info
from dl_zoo.compose import compose
from dl_zoo.options import names
from dl_zoo.run import run
from dl_zoo.tasks.classification import Classification


def test_models_lists_each_with_its_card(cli: Callable[..., Said]) -> None:
    lines = cli("models").out.splitlines()
    assert [line.split()[0] for line in lines] == list_models()
    assert "1,276,810" in next(line for line in lines if line.startswith("mlp"))
    assert cli("models", "lenet*").out.count("\n") == 2
    assert cli("models", "inceptron").code == 2
    assert cli("models", "dnn").out.startswith("mlp")  # another name on its card


@pytest.mark.parametrize("name", list_models())
def test_info_tells_all_about_a_model(name: str, cli: Callable[..., Said]) -> None:
    said = cli("info", name)
    assert said.code == 0
    for title in ("paper  ", "parameters  ", "task  ", "at  ", "switches", "layer", "train  "):
        assert title in said.out, title
    assert f"dl-zoo train model={name}" in said.out


def test_info_shows_equations_switches_layers_and_recipes(cli: Callable[..., Said]) -> None:
    out = cli("info", "lenet").out
    assert out.startswith("lenet5 (also lenet, lenet-5)\n")
    assert "C3 sees all six maps" in out  # the head of its file
    assert "  model.dropout=0.0" in out
    assert "or avg: the paper's sum up to a constant" in out
    assert "16 x 10 x 10       2,416" in out
    assert "dl-zoo train experiment=lenet5_mnist" in out


def test_the_layers_of_a_deep_net_are_told_by_block(cli: Callable[..., Said]) -> None:
    out = cli("info", "resnet152").out
    assert "layer3   Sequential         1024 x 14 x 14  40,613,888" in out
    assert "layer3.0" not in out
    rows = re.findall(r"^  \w+ +\w+ +[\dx ]+? +([\d,]+)$", out.partition("  layer ")[2], re.MULTILINE)
    assert sum(int(count.replace(",", "")) for count in rows) == 60_192_808


def test_info_finds_the_claims_that_rest_on_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"c1": "arms: {a: {experiment: lenet5_mnist}}", "c2": "arms: {a: {experiment: lenet5_1998_mnist}}"}
    monkeypatch.setattr(info, "names", lambda group: list(texts) if group == "claim" else names(group))
    original = info.text_of
    monkeypatch.setattr(info, "text_of", lambda group, name: texts[name] if group == "claim" else original(group, name))
    assert "claims       dl-zoo reproduce claim=c1" in info._uses("lenet5")
    assert not any("claim=c2" in line for line in info._uses("lenet5"))


def test_find_lr_suggests_a_rate_and_keeps_nothing(cli: Callable[..., Said], tmp_path: Path) -> None:
    said = cli("find-lr", "model=mlp", "optimizer=sgd", "trainer=cpu", "--plot", "lr.png")
    assert said.code == 0, said.err
    rate = float(said.out.split("optimizer.lr=")[1].split()[0])
    assert 1e-3 < rate < 1
    assert {path.name for path in tmp_path.iterdir()} == {"lr.png"}
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


def test_find_lr_finds_a_lower_rate_where_the_loss_is_steeper(cli: Callable[..., Said]) -> None:
    def rate(*overrides: str) -> float:
        out = cli("find-lr", "model=mlp", "model.depth=0", "optimizer=sgd", "trainer=cpu", *overrides).out
        return float(out.split("optimizer.lr=")[1].split()[0])

    assert rate("data.std=[0.01]") < 0.1 * rate("data.std=[1.0]")


def test_diagnostics_are_off_unless_asked_for() -> None:
    base = [*SMALL, "pictures=false", "trainer.max_epochs=1"]
    plain = run(compose([*base, "run_dir=plain"]))
    watched = run(compose([*base, "run_dir=watched", "diagnostics=true"]))
    assert plain.metrics == watched.metrics
    added = curves(watched.folder).keys() - curves(plain.folder).keys()
    layers = ("c1", "c3", "c5", "f6", "output")
    assert {f"gradients/{layer}" for layer in layers} <= added
    assert {f"activations/{layer}/{what}" for layer in layers for what in ("mean", "std")} <= added
    assert {f"activations/{layer}/dead" for layer in layers[:-1]} <= added
    assert {f"updates/{layer}" for layer in layers} <= added
    assert not any(tag.startswith(("gradients/", "activations/", "updates/")) for tag in curves(plain.folder))


def test_deterministic_mode_is_on_for_its_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[bool] = []
    monkeypatch.setattr(Classification, "derive", lambda self, means: [means, modes.append(deterministic())][0])
    deterministic = torch.are_deterministic_algorithms_enabled
    for mode in ("true", "null"):
        run(
            compose([*SMALL, "pictures=false", "trainer=smoke", f"trainer.deterministic={mode}", f"run_dir=run-{mode}"])
        )
        assert set(modes) == {mode == "true"}
        modes.clear()
        assert not deterministic()


def test_wrong_names_are_told(cli: Callable[..., Said]) -> None:
    assert "did you mean lenet5" in one_line(cli("info", "lenet55"))
    assert "did you mean find-lr" in one_line(cli("find-rl"))
