"""Runs side by side: which are one row, which keys are shown, the numbers, and folders that are not to be trusted."""

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dl_zoo.commands.compare import main
from dl_zoo.comparison import best_first, figure, interval, read_settings, spelled
from dl_zoo.errors import UserError
from dl_zoo.run import Result

MODELS = {
    "LeNet5": {"_target_": "dl_zoo.models.lenet5.LeNet5", "pooling": "max", "dropout": 0.0},
    "MLP": {"_target_": "dl_zoo.models.mlp.MLP", "width": 800, "dropout": 0.0},
}
REGULARIZERS = {
    "l2": {"_target_": "dl_zoo.regularizers.l2.l2", "_partial_": True, "strength": 1e-4},
    "dropout": {"rate": 0.5},
}
OPTIMIZERS = {
    "adam": {"_target_": "torch.optim.Adam", "lr": 1e-3},
    "sgd": {"_target_": "torch.optim.SGD", "lr": 0.1},
    "momentum": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
}
stamps = iter(range(10**6))


def make(
    folder: str = "", acc: float = 0.9, seed: int = 0, model: str = "LeNet5", regularizer: str = "",
    optimizer: str = "adam", change: Callable[[dict[str, Any]], Any] = dict, metrics: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """A finished run as `run` leaves it, newer than those made before."""
    path = Path(folder or f"runs/a/{next(stamps):06}")
    config = {
        "seed": seed,
        "name": path.parent.name,
        "data_dir": str(path),
        "regularizer": {name: dict(REGULARIZERS[name]) for name in regularizer.split("+") if name},
        "data": {"_target_": "dl_zoo.data.digits.Digits", "data_dir": str(path), "seed": seed, "dims": {}},
        "model": dict(MODELS[model]),
        "optimizer": dict(OPTIMIZERS[optimizer]),
        "scheduler": {},
        "trainer": {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "max_epochs": 2},
    }
    if "dropout" in regularizer:
        config["model"]["dropout"] = 0.5  # type: ignore[index]  # what its `set:` does
    change(config)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (path / "metrics.json").write_text(json.dumps(metrics or {"epoch": 2.0, "val/acc": 0.5, "test/acc": acc}))
    return path


@pytest.fixture
def table(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[list[str]]]:
    """The cells that a call prints, header first."""

    def call(*arguments: str) -> list[list[str]]:
        capsys.readouterr()
        assert main(list(arguments)) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in [lines[0], *lines[2:]]]

    return call


Table = Callable[..., list[list[str]]]


# ---- one row, or two ---------------------------------------------------------------------------------------------


def test_seeds_are_one_row_with_a_t_interval(table: Table) -> None:
    for seed, acc in enumerate((0.96, 0.97, 0.98)):
        make(seed=seed, acc=acc)
    assert table() == [["seeds", "test/acc"], ["3", "0.970 ± 0.025"]]  # 4.303 * 0.01 / sqrt(3) = 0.0248


def test_one_seed_has_no_interval(table: Table) -> None:
    make(acc=0.97)
    assert table()[1] == ["1", "0.97"]


@pytest.mark.parametrize(("n", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (11, 2.228)])
def test_interval_against_the_printed_t_table(n: int, t: float) -> None:
    values = np.random.default_rng(n).normal(size=n).tolist()
    mean, half = interval(values)
    assert mean == pytest.approx(np.mean(values))
    assert half == pytest.approx(t * np.std(values, ddof=1) / n**0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5, 0.5], "0.5 ± 0"), ([100.0, 120.0], "110 ± 127"), ([math.nan, 1.0], "nan ± nan"), ([1e200], "1e+200")],
)
def test_spelled(values: list[float], text: str) -> None:
    assert spelled(values) == text


def test_where_it_ran_is_no_difference(table: Table) -> None:
    def elsewhere(config: dict[str, Any]) -> None:
        config["trainer"] |= {"accelerator": "cuda", "devices": 2, "strategy": "ddp", "profiler": "simple"}
        config["data"] |= {"dims": {"channels": 1}}
        config |= {"run_dir": "x", "resume": "x", "dims": {"a": 1}, "logger": {"_target_": "x.Csv"}, "debug": {"x": 1}}
        config |= {"diagnostics": False, "pictures": False, "checkpoint_every": 1}

    make("runs/a/1", seed=0)
    make("elsewhere/b/2", seed=1, change=elsewhere)
    assert [row[0] for row in table("runs", "elsewhere")] == ["seeds", "2"]


def test_any_other_key_is_a_difference(table: Table) -> None:
    make(seed=0)
    make(seed=1, change=lambda config: config["trainer"].update(max_epochs=3))
    assert table()[0] == ["trainer.max_epochs", "seeds", "test/acc"]


def test_whole_numbers_and_floats_are_the_same_value(table: Table) -> None:
    make(seed=0, change=lambda config: config["optimizer"].update(lr=1))
    make(seed=1, change=lambda config: config["optimizer"].update(lr=1.0))
    assert table()[1][0] == "2"


def test_a_fixed_data_seed_is_kept_while_the_seed_moves(table: Table) -> None:
    """Three seeds on their own splits, and three on split 0: two rows of three, although seed 0 is in both."""
    for seed in range(3):
        make(seed=seed)
        make(seed=seed, optimizer="sgd", change=lambda config: config["data"].update(seed=0))
    rows = table()
    assert rows[0] == ["optimizer", "optimizer.lr", "seeds", "test/acc"]
    assert [row[2] for row in rows[1:]] == ["3", "3"]


def test_runs_on_a_fixed_split_are_no_reruns_of_those_on_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        make(seed=seed)
        if seed:
            make(seed=seed, change=lambda config: config["data"].update(seed=0))
    main([])
    captured = capsys.readouterr()
    assert captured.out.startswith("5 runs in 3 settings")  # split 0 under three seeds, 1 and 2 under one each
    assert captured.err == ""


def test_of_a_rerun_the_newest_counts(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    make("runs/a/2026-01-02_00-00-00", acc=0.8)
    make("runs/z/2026-01-01_00-00-00", acc=0.1)
    make("runs/a/2026-01-03_00-00-00", acc=0.9, seed=1)
    assert table("--metric", "test/acc")[1] == ["2", "0.85 ± 0.64"]
    main([])
    assert "1 older" in capsys.readouterr().err


def test_same_name_of_other_modules_is_another_setting(table: Table) -> None:
    make(seed=0)
    make(seed=1, change=lambda config: config["model"].update(_target_="mine.LeNet5"))
    rows = table()
    assert rows[0][0] == "model._target_"
    assert {row[0] for row in rows[1:]} == {"dl_zoo.models.lenet5.LeNet5", "mine.LeNet5"}


# ---- which keys are shown ----------------------------------------------------------------------------------------


def test_models_by_name_and_not_by_what_only_one_has(table: Table) -> None:
    make(model="LeNet5", acc=0.9)
    make(model="MLP", acc=0.8)
    assert table() == [["model", "seeds", "test/acc"], ["LeNet5", "1", "0.9"], ["MLP", "1", "0.8"]]


def test_a_key_of_one_model_is_shown_where_it_varies(table: Table) -> None:
    make(model="LeNet5", acc=0.9)
    make(model="LeNet5", acc=0.8, change=lambda config: config["model"].update(pooling="average"))
    make(model="MLP", acc=0.7)
    rows = table()
    assert rows[0][:2] == ["model", "model.pooling"]
    assert [row[:2] for row in rows[1:]] == [["LeNet5", "max"], ["LeNet5", "average"], ["MLP", ""]]


def test_optimizers_of_one_class_are_told_apart(table: Table) -> None:
    make(optimizer="momentum", acc=0.9)
    make(optimizer="sgd", acc=0.8)
    rows = table()
    assert rows[0][0] == "optimizer.momentum"
    assert [row[0] for row in rows[1:]] == ["0.9", ""]


def test_regularizers_are_named_and_what_they_set_is_not_said_twice(table: Table) -> None:
    make(regularizer="l2+dropout", acc=0.9)
    make(regularizer="l2", acc=0.8)
    make(acc=0.7)
    rows = table()
    assert rows[0] == ["regularizer", "seeds", "test/acc"]
    assert [row[0] for row in rows[1:]] == ["dropout+l2", "l2", "none"]


def test_a_regularizers_numbers_are_shown_where_they_vary(table: Table) -> None:
    for strength in (1e-3, 1e-4):
        make(regularizer="l2", change=lambda config, s=strength: config["regularizer"]["l2"].update(strength=s))
    assert table()[0] == ["regularizer.l2.strength", "seeds", "test/acc"]


def test_how_a_transform_is_built_is_no_difference(table: Table) -> None:
    shift = {"_target_": "dl_zoo.regularizers.shift.shift", "_partial_": True, "pixels": 4}
    make()
    make(change=lambda config: config["data"].update(augment={"shift": shift}))
    assert "data.augment.shift.pixels" in table()[0]
    assert not any("_partial_" in cell for cell in table()[0])


def test_dropout_typed_by_hand_is_a_key_like_any_other(table: Table) -> None:
    make()
    make(change=lambda config: config["model"].update(dropout=0.3))
    assert table()[0][0] == "model.dropout"


def test_no_schedule_against_one(table: Table) -> None:
    make(acc=0.9)
    make(acc=0.8, change=lambda config: config.update(scheduler={"_target_": "dl_zoo.schedules.cosine", "warmup": 0}))
    assert [row[0] for row in table()] == ["scheduler", "none", "cosine"]


# ---- metrics and order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        *[(name, 2.0) for name in ("test/acc", "test/f1", "val/top5")],
        *[(name, 1.0) for name in ("test/loss", "val/word_error", "test/fid_lenet", "test/nll", "val/mae")],
    ],
)
def test_best_first(metric: str, best: float) -> None:
    make(model="LeNet5", metrics={"epoch": 1.0, metric: 1.0})
    make(model="MLP", metrics={"epoch": 1.0, metric: 2.0})
    make(model="MLP", optimizer="sgd", metrics={"epoch": 1.0, metric: math.nan})
    values = [setting[0].metrics[metric] for setting in best_first(read_settings(["runs"]), metric)]
    assert values[0] == best
    assert math.isnan(values[-1])


def test_chosen_metrics_in_the_order_of_choice(table: Table) -> None:
    make(metrics={"epoch": 1.0, "val/acc": 0.1, "val/loss": 0.2, "test/acc": 0.3})
    assert table()[0] == ["seeds", "test/acc"]
    assert table("--metric", "val/*", "--metric", "test/acc", "--metric", "*/acc")[0][1:] == [
        "val/acc",
        "val/loss",
        "test/acc",
    ]
    with pytest.raises(UserError, match="did you mean test/acc"):
        main(["--metric", "test/ac"])


def test_a_metric_that_one_setting_lacks_is_empty(table: Table) -> None:
    make(model="LeNet5", metrics={"epoch": 1.0, "test/ppl": 3.0})
    make(model="MLP", metrics={"epoch": 1.0, "test/acc": 0.5})
    assert table("--metric", "test/acc", "--metric", "test/ppl")[1:] == [
        ["MLP", "1", "0.5", ""],
        ["LeNet5", "1", "", "3"],
    ]


def test_headline_and_a_cell_that_holds_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    make("runs/a/1", change=lambda config: config.update(freeze=["a|b"]))
    make("runs/b/2", change=lambda config: config.update(freeze=["c"]))
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 runs in 2 settings below runs"
    assert any("[a\\|b]" in line for line in lines)
    assert len({len(line) for line in lines[2:]}) == 1  # the columns stand under each other


def test_csv_has_a_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        make(f"runs/a/{seed}", model="LeNet5", seed=seed, acc=0.1 + seed)
    make("runs/a/x", model="MLP", change=lambda config: config["optimizer"].update(betas=[0.9, 0.99]))
    assert main(["--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["model", "optimizer.betas", "seed", "epoch", "val/acc", "test/acc", "folder"]
    assert {row["folder"]: (row["model"], row["seed"], float(row["test/acc"])) for row in rows} == {
        "runs/a/0": ("LeNet5", "0", 0.1),
        "runs/a/1": ("LeNet5", "1", 1.1),
        "runs/a/x": ("MLP", "0", 0.9),
    }
    main(["--csv", "--metric", "val/acc"])
    assert capsys.readouterr().out.startswith("model,optimizer.betas,seed,val/acc,folder\n")


# ---- folders -----------------------------------------------------------------------------------------------------


def test_a_real_run(finished: Result, table: Table) -> None:
    shutil.copytree(finished.folder, "copy")
    rows = table(str(finished.folder), "copy", "--metric", "test/acc")
    assert rows == [["seeds", "test/acc"], ["1", f"{finished.metrics['test/acc']:.4g}"]]


def test_a_run_named_twice_is_one(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    path = make()
    assert table("runs", str(path), "./runs/a")[1][0] == "1"
    main(["runs", str(path)])
    assert capsys.readouterr().err == ""


def test_what_is_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    make()
    for _ in range(2):
        (make() / "metrics.json").unlink()
    bad = make()
    (bad / "config.yaml").write_text("a: [")
    assert main([]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("1 run in 1 setting below runs/a\n")
    assert sorted(captured.err.splitlines())[0] == "2 unfinished left out"
    assert f"{bad}/config.yaml is damaged" in captured.err
    assert len(captured.err.splitlines()) == 2


BAD_CONFIGS = {
    "code": "seed: 0\nmodel: !!python/object/apply:os.system ['touch harmed']\n",
    "laughs": "seed: 0\na0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)),
    "deep list": "[" * 100_000,
    "deep mapping": "seed: 0\na: " + "{a: " * 5000,
    "bytes": b"\xff\xfe\x00",
    "list": "[1, 2]",
    "no seed": "model: {}",
    "seed is text": "seed: x",
    "wrong tag": "seed: !!timestamp x",
    "empty integer": "seed: !!int ''",
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_hostile_configuration_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = BAD_CONFIGS[name]
    (make() / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="no finished run"):
        main([])
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not Path("harmed").exists()


BAD_METRICS = ["", "[]", "{}", '{"epoch": "x"}', '{"epoch": null}', '{"epoch": 1' + "0" * 400 + "}", "[" * 100_000]


@pytest.mark.parametrize("text", BAD_METRICS, ids=lambda text: text[:12])
def test_damaged_metrics_are_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (make() / "metrics.json").write_text(text)
    with pytest.raises(UserError, match="no finished run"):
        main([])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_terminal_is_not_written_to_by_a_stranger(capsys: pytest.CaptureFixture[str]) -> None:
    make(change=lambda config: config["model"].update({"a\x1b[2J": "x\x1b]0;y\x07"}))
    make(
        change=lambda config: config["model"].update({"a\x1b[2J": "line\nbreak"}), metrics={"epoch": 1, "test/\x1b": 1}
    )
    main([])
    main(["--csv"])
    assert "\x1b" not in capsys.readouterr().out


def test_paths_that_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="runs: there is no such folder; name"):
        main([])
    Path("file").touch()
    with pytest.raises(UserError, match="file: is a file; name"):
        main(["file"])
    Path("empty").mkdir()
    with pytest.raises(UserError, match="empty: no finished run here; dl-zoo train"):
        main(["empty"])
    with pytest.raises(UserError, match="--help"):
        main(["--unknown"])


# ---- figure ------------------------------------------------------------------------------------------------------


def test_figure_shows_what_the_table_says() -> None:
    for seed, acc in enumerate((0.96, 0.97, 0.98)):
        make(seed=seed, acc=acc, optimizer="adam", regularizer="l2")
    make(acc=0.99, optimizer="sgd")
    settings = best_first(read_settings(["runs"]), "test/acc")
    axes = figure(settings, ["optimizer", "regularizer"], "test/acc").axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["optimizer=SGD, regularizer=none", "optimizer=Adam, regularizer=l2"]
    assert axes.get_xlabel() == "test/acc"
    assert axes.yaxis_inverted()  # the best on top
    seeds, line, mean = (drawn.get_xdata() for drawn in axes.lines[3:])
    assert sorted(seeds) == [0.96, 0.97, 0.98]
    assert line == pytest.approx([0.97 - 0.02484, 0.97 + 0.02484], abs=1e-5)
    assert mean == pytest.approx([0.97])


def test_plot_grows_with_its_rows_and_cuts_no_label() -> None:
    """Twelve rows with long labels and dollar signs, which enclose no formula here."""
    heights = []
    for rows in (2, 12):
        folder = f"runs{rows}"
        for row in range(rows):
            make(f"{folder}/a/{row}", change=lambda config, r=row: config["model"].update(note=f"$\\long_{r}$" * 9))
        assert main([folder, "--plot", f"{rows}.png"]) == 0
        ink = np.asarray(Image.open(f"{rows}.png").convert("L")) < 128
        heights.append(len(ink))
        assert ink[:, :4].sum() == ink[:, -4:].sum() == 0  # a margin on either side
    assert heights[1] - heights[0] > 10 * 40  # a line of 9 points has 25 pixels at 200 dpi


@pytest.mark.parametrize("path", ["nowhere/a.png", "a.docx"])
def test_plot_that_cannot_be_written(path: str) -> None:
    make()
    with pytest.raises(UserError, match=r"--plot .* cannot be written: .*; name a \.png"):
        main(["--plot", path])


# ---- cost --------------------------------------------------------------------------------------------------------


def test_a_hundred_runs_take_seconds_and_no_torch() -> None:
    for seed in range(25):
        for optimizer in ("adam", "sgd"):
            for model in MODELS:
                make(model=model, optimizer=optimizer, seed=seed, acc=seed / 25)
    code = """
import sys
from dl_zoo.commands.compare import main
code = main([])
heavy = {"torch", "pytorch_lightning", "matplotlib", "scipy.stats"} & set(sys.modules)
sys.exit(code or f"imported {heavy}" if heavy else code)
"""
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    after = os.times()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("100 runs in 4 settings below runs/a")
    assert after.children_user + after.children_system - before.children_user - before.children_system < 3
