"""Series and tables: what is read of a CSV, windows, splits, floors, forecasters, and forecasts of files."""

import csv
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import one_line, trained
from torch import Tensor, nn

from dl_zoo import checkpoints
from dl_zoo.callbacks.forecasts import unscaled
from dl_zoo.compose import compose
from dl_zoo.data import csv_file
from dl_zoo.data.csv_file import after, usual_step
from dl_zoo.data.csv_series import CSVSeries
from dl_zoo.data.csv_table import CSVTable, encoded
from dl_zoo.data.series import Windows
from dl_zoo.data.sine_series import SineSeries
from dl_zoo.errors import UserError
from dl_zoo.models.forecaster_cnn import ForecasterCNN
from dl_zoo.models.forecaster_gru import ForecasterGRU
from dl_zoo.tasks.forecasting import Forecasting

HOUR = timedelta(hours=1)
START = datetime(2024, 2, 28)


def rows(count: int) -> np.ndarray:
    """(count, 3): a day's wave, its cosine on a slope, and the number of the row."""
    t = np.arange(count)
    return np.stack([np.sin(2 * np.pi * t / 24), 5 + np.cos(2 * np.pi * t / 24) + t / count, t], 1)


def csv_of(values: np.ndarray, step: timedelta | None = HOUR, name: str = "series.csv") -> Path:
    path = Path(name)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*["when"] * (step is not None), "wave", "slope", "count"])
        for place, row in enumerate(values.tolist()):
            writer.writerow([*([] if step is None else [START + place * step]), *row])
    return path


def read(**settings: Any) -> CSVSeries:
    data = CSVSeries({}, **{"context": 8, "horizon": 3, **settings})
    data.setup()
    return data


def whole(data: Any, split: str) -> tuple[Tensor, Tensor]:
    inputs, targets = data.splits[split]
    index = torch.arange(len(inputs))
    return inputs.index_select(0, index), targets.index_select(0, index)


# ---- windows and splits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [None, "slope", ["count", "wave"]])
def test_windows_are_those_made_by_hand(column: Any) -> None:
    values = rows(100)
    data = read(path=str(csv_of(values)), column=column)
    known = values[:60]
    scaled = (values - known.mean(0)) / known.std(0)
    names = ["wave", "slope", "count"]
    first = [names.index(each) for each in ([column] if isinstance(column, str) else column or names)]
    order = first + [place for place in range(3) if place not in first]
    assert data.dims == {"input_size": 3, "context": 8, "horizon": 3, "num_targets": len(first)}
    assert data.normalisation["columns"] == [names[place] for place in order]
    for split, (begin, end) in {"train": (8, 60), "val": (60, 80), "test": (80, 100)}.items():
        inputs, targets = whole(data, split)
        starts = range(begin, end - 3 + 1)  # of the targets
        assert len(inputs) == len(targets) == data.sizes[split] == len(starts)
        expected = np.stack([scaled[start - 8 : start][:, order] for start in starts])
        np.testing.assert_allclose(inputs, expected, atol=1e-6)
        np.testing.assert_allclose(targets, np.stack([scaled[s : s + 3][:, first] for s in starts]), atol=1e-6)


def test_no_target_is_in_two_splits_and_the_scale_is_that_of_training() -> None:
    values = rows(100)
    data = read(path=str(csv_of(values)), splits=[0.5, 0.25, 0.25])
    counts = {split: unscaled(whole(data, split)[1], data.normalisation)[:, :, 2].round() for split in data.splits}
    found = {split: set(each.flatten().int().tolist()) for split, each in counts.items()}
    assert found == {"train": {*range(8, 50)}, "val": {*range(50, 75)}, "test": {*range(75, 100)}}
    values[50:] *= 100
    assert read(path=str(csv_of(values)), splits=[0.5, 0.25, 0.25]).normalisation == data.normalisation


def test_a_batch_is_a_view_gathered_when_it_is_asked_for() -> None:
    data = SineSeries({}, steps=2000, columns=2, context=96, horizon=24, batch_size=5)
    data.setup()
    inputs, _ = data.splits["train"]
    assert isinstance(inputs, Windows)
    assert inputs.values is data.splits["test"][0].values, "one series for all"
    assert inputs.values.shape == (2000, 2)
    x, y = next(iter(data.loader("train", shuffle=True)))
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((5, 96, 2), (5, 24, 2), torch.float32, torch.float32)
    one = inputs.chosen(torch.tensor([7, 3]))
    assert torch.equal(one.index_select(0, torch.tensor([1]))[0], inputs.values[3 : 3 + 96])


def test_a_column_that_never_changes_is_zero() -> None:
    values = rows(60)
    values[:40, 2] = 1000.0
    inputs, _ = whole(read(path=str(csv_of(values))), "train")
    assert inputs.isfinite().all()
    assert not inputs[:, :, 2].any()


def test_generated_waves_are_the_same_for_every_seed_and_repeat() -> None:
    made = [SineSeries({}, seed=seed, noise=0.0, trend=0.0) for seed in (1, 2)]
    for each in made:
        each.setup()
    values, other = (each.splits["train"][0].values for each in made)
    assert torch.equal(values, other)
    slow = values[168:] - values[:-168]  # day and week are whole here; the slow wave has 1,000 steps
    assert 0.1 < slow.abs().max() < 1
    assert (slow[500:] + slow[:-500]).abs().max() < 1e-4


# ---- floors ------------------------------------------------------------------------------------------------------


class Says(nn.Module):
    """The slope of the last two values, drawn on; by one number."""

    def __init__(self) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1:] + self.size * (x[:, -1:] - x[:, -2:-1]) * torch.arange(1, 6)[None, :, None]


@pytest.mark.parametrize(("loss", "season"), [("mse", 4), ("mae", 1), ("huber", 0)])
def test_measures_are_those_of_all_windows_at_once(loss: str, season: int) -> None:
    """In batches of unequal size, against NumPy."""
    data = SineSeries({}, steps=400, context=12, horizon=5, batch_size=32)
    task = Forecasting(Says(), lambda parameters: torch.optim.SGD(parameters, 0.1), loss=loss, season=season)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(task, data, verbose=False)
    found = {name: value.item() for name, value in trainer.callback_metrics.items()}
    x, y = (each.numpy().astype(np.float64) for each in whole(data, "test"))
    wrong = x[:, -1:] + (x[:, -1:] - x[:, -2:-1]) * np.arange(1, 6)[None, :, None] - y
    expected = {"mse": np.mean(wrong**2), "mae": np.mean(np.abs(wrong)), "repeat_last": np.mean((x[:, -1:] - y) ** 2)}
    huber = np.where(np.abs(wrong) < 1, wrong**2 / 2, np.abs(wrong) - 0.5)
    expected["loss"] = {**expected, "huber": huber.mean()}[loss]
    if season:
        again = np.concatenate([x[:, -season:]] * 5, 1)[:, :5]
        expected["repeat_yesterday"] = np.mean((again - y) ** 2)
    assert found == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-5)


def test_a_season_longer_than_the_context_is_told(cli: Any) -> None:
    said = one_line(cli("check", "model=forecaster_cnn", "data=sine_series", "data.context=12", "trainer=cpu"))
    assert said.endswith("task.season=24: the net sees 12 steps; set data.context=24 or task.season=0")


@pytest.mark.parametrize("words", [["task.loss=l2"], ["task.season=-1"]])
def test_wrong_words_for_the_task(cli: Any, words: list[str]) -> None:
    assert words[0] in one_line(cli("check", "model=forecaster_cnn", "data=sine_series", "trainer=cpu", *words))


# ---- ETTh1 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("horizon", "last", "yesterday"), [(24, 1.2220, 0.4244), (96, 1.2944, 0.5122)])
def test_etth1_has_the_floors_that_are_known_of_it(horizon: int, last: float, yesterday: float) -> None:
    cfg = compose(["model=forecaster_cnn", "data=csv_series", f"data.horizon={horizon}"])
    data = CSVSeries({}, data_dir=cfg.data.data_dir, horizon=horizon)
    if data.absent():
        pytest.skip("ETTh1 is not here; DL_ZOO_DATA names the folder where it is")
    data.setup()
    assert data.sizes == {"train": 8640 - 96 - horizon + 1, "val": 2880 - horizon + 1, "test": 2880 - horizon + 1}
    assert data.normalisation["columns"] == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    x, y = whole(data, "test")
    assert (x[:, -1:] - y).square().mean().item() == pytest.approx(last, abs=5e-5)
    again = x[:, -24:].repeat(1, horizon // 24, 1)
    assert (again - y).square().mean().item() == pytest.approx(yesterday, abs=5e-5)


def test_etth1_that_is_absent_or_damaged_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CSVSeries, "archives", ["http://127.0.0.1:9/"])
    with pytest.raises(UserError, match=r"csv_series: expected ETTh1.csv in .*data=sine_series runs without"):
        CSVSeries({}, data_dir="nowhere").setup()
    Path("ett").mkdir()
    Path("ett/ETTh1.csv").write_text("date,OT\n2016-07-01,1\n")
    with pytest.raises(UserError, match=r"ett/ETTh1.csv is damaged \(its SHA-256 is another\): delete it"):
        CSVSeries({}, data_dir=".").setup()


# ---- files that are not as they should be ------------------------------------------------------------------------

HEAD = "when,a,b\n"
BAD = {
    "empty": ("", "bad.csv: is empty"),
    "names only": (HEAD, "bad.csv: has 0 rows, and 3 are needed"),
    "too few rows": (HEAD + "2024-01-01,1,2\n2024-01-02,3,4\n", "bad.csv: has 2 rows, and 3 are needed"),
    "no names": ("1,2\n3,4\n", "bad.csv, line 1: '1,2' should be the names of the columns, and holds numbers"),
    "a name twice": ("a,a\n1,2\n", "bad.csv, line 1: the column a is there twice"),
    "a short row": (HEAD + "2024-01-01,1,2\n2024-01-02,3\n", "bad.csv, line 3: has 2 cells, and there are 3 columns"),
    "a gap": (HEAD + "2024-01-01,1,2\n2024-01-02,,4\n2024-01-03,5,6\n", "bad.csv, line 3, column 'a': is empty; fill"),
    "a written gap": (HEAD + "2024-01-01,1,2\n2024-01-02,3,NaN\n2024-01-03,5,6\n", "line 3, column 'b': holds 'NaN'"),
    "text": (
        HEAD + "2024-01-01,1,2\n2024-01-02,x,4\n2024-01-03,5,6\n",
        "bad.csv, line 3, column 'a': 'x' is no number",
    ),
    "infinite": (HEAD + "2024-01-01,1,2\n2024-01-02,3,inf\n2024-01-03,5,6\n", "line 3, column 'b': 'inf' is no number"),
    "no date": (
        HEAD + "2024-01-01,1,2\nlater,3,4\n2024-01-03,5,6\n",
        "line 3, column 'when': 'later' is no date such as",
    ),
    "a missing date": (
        HEAD + "2024-01-01,1,2\n2024-01-02,3,4\n2024-01-04,5,6\n2024-01-05,5,6\n",
        "line 4, column 'when': 2024-01-04 comes after 2024-01-02, where others are 1 day apart; fill the gap, or",
    ),
    "out of order": (HEAD + "2024-01-02,1,2\n2024-01-01,3,4\n2024-01-03,5,6\n", "2024-01-01 is not later than the row"),
    "a blank line is none": (
        HEAD + "\n2024-01-01,1,2\n\n2024-01-02,,4\n2024-01-03,5,6\n",
        "line 5, column 'a': is empty",
    ),
    "not UTF-8": (HEAD.encode() + b"2024-01-01,1,\xff\n", "bad.csv: is no text in UTF-8 (byte 22)"),
    "quotes": ('a,b\n1,"2\n3,4\n5,6', "bad.csv: has 1 row, and 3 are needed"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_series_is_told_in_one_line(name: str, cli: Any) -> None:
    content, expected = BAD[name]
    Path("bad.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    words = ["data.path=bad.csv", "data.context=2", "data.horizon=1", "task.season=0"]
    said = one_line(cli("train", "model=forecaster_cnn", "data=csv_series", "trainer=cpu", "logger=none", *words))
    assert expected in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data.path=no.csv"], "no.csv: No such file or directory"),
        (["data.column=OT"], "data.column=OT: series.csv has no such column; it has wave, slope, count"),
        (["data.column=[wave,wave]"], "data.column=[wave,wave]: must name columns, each once"),
        (["data.splits=[0.5,0.5]"], "data.splits=[0.5,0.5]: must be three shares above 0 that add up to 1"),
        (["data.splits=[0.9,0.2,-0.1]"], "must be three shares above 0"),
        (["data.horizon=40"], "val split: has 20 steps, too few for a horizon of 40"),
        (["data.context=58"], "train split: has 60 steps, too few for a context of 58 and a horizon of 3"),
        (["data.context=0"], "data.context=0: must be at least 1"),
        (["model.base=season"], "base=season needs a context of a season: context=8 is below season=24"),
    ],
)
def test_wrong_words_for_a_series_are_told_in_one_line(words: Sequence[str], expected: str, cli: Any) -> None:
    csv_of(rows(100))
    usual = ["data.path=series.csv", "data.context=8", "data.horizon=3", "task.season=0", "trainer=cpu"]
    assert expected in one_line(cli("check", "model=forecaster_cnn", "data=csv_series", *usual, *words))


def test_a_table_with_semicolons_and_months() -> None:
    dates = [f"{2020 + month // 12}-{month % 12 + 1:02}-01" for month in range(20)]
    Path("months.csv").write_text("\ufeffmonth;sold\n" + "".join(f"{each}; {n}.5\n" for n, each in enumerate(dates)))
    table = csv_file.read("months.csv")
    assert table.numbers("sold")[:2] == [0.5, 1.5]
    found = table.dates("month")
    assert usual_step(found) == 1
    assert after(found[-1], 1, 6) == datetime(2022, 2, 1)


# ---- forecasters -------------------------------------------------------------------------------------------------

NETS = [
    pytest.param(net, {"separate": separate, "base": base, **more}, id=f"{net.__name__}-{separate}-{base}-{more}")
    for net in (ForecasterCNN, ForecasterGRU)
    for separate in (True, False)
    for base in ("none", "last", "season")
    for more in ([{}, {"decode": "recursive"}] if net is ForecasterGRU and base != "season" else [{}])
]


def said_by(net: nn.Module, x: Tensor) -> Tensor:
    answer = net(x)
    return answer[0] if isinstance(answer, tuple) else answer


@pytest.mark.parametrize(("net", "arguments"), NETS)
def test_shapes_and_bases(net: Any, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    recursive = "decode" in arguments
    targets = 3 if recursive and not arguments["separate"] else 2
    one = net(3, 7, targets, width=4, season=5, **arguments)
    x = torch.randn(6, 11, 3)
    answers = said_by(one, x)
    assert answers.shape == (6, 7, targets)
    assert said_by(net(3, 7, targets, width=4, season=5, **arguments).to("meta"), x.to("meta")).is_meta
    moved = said_by(one, x + 10)
    if arguments["base"] != "none":
        torch.testing.assert_close(moved, answers + 10, msg="a level is taken off and put back")
    else:
        assert not torch.allclose(moved, answers + 10, atol=1)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
    expected = {
        "none": torch.zeros(6, 7, targets),
        "last": x[:, -1:, :targets].expand(6, 7, targets),
        "season": torch.cat([x[:, -5:], x[:, -5:-3]], 1)[:, :, :targets],
    }
    assert torch.equal(said_by(one, x), expected[arguments["base"]])


@pytest.mark.parametrize(("net", "arguments"), NETS)
def test_columns_by_themselves_see_no_other_column(net: Any, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    one = net(3, 7, 3, width=4, season=5, **arguments)
    x = torch.randn(2, 11, 3)
    other = x.clone()
    other[:, :, 1] += torch.randn(2, 11)
    change = (said_by(one, x) - said_by(one, other)).abs().amax((0, 1))
    assert change[1] > 0
    assert (change[[0, 2]].max() == 0) == arguments["separate"]


def test_no_layer_of_the_convolutional_one_sees_what_comes_later() -> None:
    """By gradients: output t of each block depends on inputs up to t, and on those as far back as is said."""
    torch.manual_seed(0)
    net = ForecasterCNN(1, 4, 1, width=8, depth=3, base="none")
    reach = 1 + 2 * 2 * (2**3 - 1)
    x = torch.randn(1, 1, 60, requires_grad=True)
    for t in (35, 59):
        seen = torch.autograd.grad(net.layers(x)[0, :, t].sum(), x)[0][0, 0].nonzero().flatten()
        assert (int(seen.min()), int(seen.max())) == (t - reach + 1, t)
    assert f"{1 + 2 * 2 * (2**5 - 1)} with 5 levels of kernel 3" in (
        ForecasterCNN.__init__.__globals__["__doc__"] or ""
    )


def test_recursive_reads_what_it_said() -> None:
    torch.manual_seed(0)
    net = ForecasterGRU(2, 3, 2, width=5, decode="recursive", separate=False, base="none")
    x = torch.randn(4, 6, 2)
    for step in range(3):
        y, state = net.encoder(x)
        torch.testing.assert_close(said_by(net, x[:, :6])[:, step], y)
        x = torch.cat([x, y[:, None]], 1)
    torch.testing.assert_close(net(x[:, :6])[1][0], net.encoder(x[:, :-1])[1][0], msg="state behind what was read")
    assert state[0].shape == (4, 1, 5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"base": "first"}, "base='first' is not one of none, last, season"),
        ({"num_targets": 8}, "num_targets=8 must be from 1 to input_size=7"),
        ({"horizon": 0}, "horizon=0 must be at least 1"),
        ({"season": 0}, "season=0 must be at least 1"),
        ({"decode": "both"}, "decode='both' is not one of"),
        ({"decode": "recursive", "separate": False, "num_targets": 2}, "so it must forecast every column"),
        ({"decode": "recursive", "base": "season"}, "decode=recursive goes with base=last or none"),
    ],
)
def test_arguments_that_make_no_forecaster(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        ForecasterGRU(**arguments)


def test_forecasters_and_other_nets_are_not_mixed_up(cli: Any) -> None:
    said = one_line(cli("check", "model=gru", "data=csv_series"))
    assert "task=regression needs numbers for each item, and data=csv_series has steps of a series to come" in said
    said = one_line(cli("check", "model=forecaster_gru", "data=adding"))
    assert "model=forecaster_gru needs horizon, which data=adding does not have" in said


# ---- runs and forecasts of files -----------------------------------------------------------------------------------

SERIES = ["data=csv_series", "data.path=series.csv", "data.context=24", "data.horizon=6", "data.batch_size=32"]


def test_a_forecast_goes_on_behind_the_end(cli: Any) -> None:
    csv_of(rows(300))
    result = trained("model=forecaster_gru", "model.base=season", *SERIES, "data.column=[slope,wave]")
    assert result.metrics["test/mse"] < result.metrics["test/repeat_last"]
    kept = checkpoints.read(checkpoints.find(result.folder))["dl_zoo"]["normalisation"]
    assert kept["columns"] == ["slope", "wave", "count"]
    Path("series.csv").unlink()  # the dataset itself is not needed
    values = rows(340)
    file = csv_of(values[:310], name="new.csv")
    said = cli("predict", str(result.folder), str(file))
    assert said.code == 0, said
    lines = [line.split(",") for line in said.out.splitlines()]
    assert lines[0] == ["when", "slope", "wave"]
    assert [line[0] for line in lines[1:]] == [str(START + (310 + step) * HOUR) for step in range(6)]
    forecast = np.array([[float(cell) for cell in line[1:]] for line in lines[1:]])
    assert np.abs(forecast - values[310:316][:, [1, 0]]).mean() < 0.5, "in the file's own units"
    # the same by hand: what the net says of the scaled context, unscaled
    from dl_zoo.trained import load

    known = values[:180][:, [1, 0, 2]]
    x = torch.tensor((values[286:310][:, [1, 0, 2]] - known.mean(0)) / known.std(0)).float()[None]
    net = load(result.folder).net.eval()
    by_hand = said_by(net, x)[0].detach().numpy() * known.std(0)[:2] + known.mean(0)[:2]
    np.testing.assert_allclose(forecast, by_hand, rtol=1e-4)


def test_a_forecast_is_written_and_drawn(cli: Any) -> None:
    csv_of(rows(200))
    folder = str(trained("model=forecaster_cnn", *SERIES, "trainer.max_epochs=1").folder)
    plain = csv_of(rows(30), step=None, name="plain.csv")
    said = cli("predict", folder, "plain.csv", "series.csv", "--output", "found")
    assert said.code == 0, said
    assert Path("found/forecast.png").read_bytes().startswith(b"\x89PNG")
    with Path("found/predictions.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["path"] for row in found] == ["plain.csv"] * 6 + ["series.csv"] * 6
    assert [row["step"] for row in found[:6]] == ["1", "2", "3", "4", "5", "6"]
    assert found[6]["step"] == str(START + 200 * HOUR)
    for content, expected in {
        "wave,slope\n1,2\n": "plain.csv: has 1 row, and 24 are needed",
        "wave,slope\n" + "1,2\n" * 24: "plain.csv: has no column 'count'; it has wave, slope",
        "wave,slope,count\n" + "1,2,3\n" * 20 + "1,,3\n" * 4: "plain.csv, line 22, column 'slope': is empty",
    }.items():
        plain.write_text(content)
        assert expected in one_line(cli("predict", folder, "plain.csv"))


def test_a_run_draws_its_forecasts() -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from dl_zoo.run import run

    csv_of(rows(200))
    words = ["model=forecaster_gru", *SERIES, "trainer=cpu", "trainer.max_epochs=1"]
    result = run(compose(words))
    drawn = EventAccumulator(str(result.folder)).Reload().Tags()["images"]
    assert {"samples/forecasts", "samples/test_forecasts"} <= set(drawn)


# ---- tables --------------------------------------------------------------------------------------------------------


def people(count: int = 60) -> list[list[str]]:
    return [[str(n), "red" if n % 2 else "blue", f"{n % 7}.5", "tall" if n % 2 else "short"] for n in range(count)]


def table_of(lines: Sequence[Sequence[str]], names: Sequence[str] = ("id", "hat", "size", "kind")) -> Path:
    Path("people.csv").write_text("\n".join(map(",".join, [names, *lines])) + "\n")
    return Path("people.csv")


def test_a_table_is_scaled_on_its_training_rows_and_dealt_out_once() -> None:
    table_of(people())
    data = CSVTable({}, path="people.csv", ignore=["size"])
    data.setup()
    assert data.classes == ["short", "tall"]
    assert data.dims == {"features": 3, "num_classes": 2}
    assert data.sizes == {"train": 36, "val": 12, "test": 12}
    known = data.normalisation
    ids = {split: (x[:, 0] * known["std"][0] + known["mean"][0]).round().int() for split, (x, _) in data.splits.items()}
    assert sorted(torch.cat([*ids.values()]).tolist()) == [*range(60)]
    train = ids["train"].double()
    assert known["mean"][0] == pytest.approx(train.mean().item())
    assert known["std"][0] == pytest.approx(train.std(correction=0).item())
    for split, (x, y) in data.splits.items():
        assert x[:, 1:].tolist() == [[1.0, 0.0] if n % 2 == 0 else [0.0, 1.0] for n in ids[split].tolist()]
        assert torch.equal(y, ids[split] % 2)
        assert y.float().mean() == 0.5, "each split has its share of each class"
    other = CSVTable({}, path="people.csv", ignore=["size"], seed=7)
    other.setup()
    assert torch.equal(other.splits["test"][0], data.splits["test"][0]), "whatever the seed of a run"


def test_numbers_to_predict_are_scaled_and_told_in_their_own_units(cli: Any) -> None:
    table_of([[str(n), row[1], row[2], str(100 + 3 * n)] for n, row in enumerate(people())])
    words = ["data=csv_table_numbers", "data.path=people.csv", "data.batch_size=12", "optimizer.lr=1e-2"]
    result = trained("model=mlp", "model.width=16", "task=regression", *words, "trainer.max_epochs=60")
    assert result.metrics["test/naive"] == pytest.approx(1, abs=0.5)
    assert result.metrics["test/r2"] > 0.9
    table_of([["10", "blue", "3.5"], ["40", "green", "1.5"]], ["id", "hat", "size"])
    said = cli("predict", str(result.folder), "people.csv")
    assert said.code == 0, said
    assert said.err == "dl-zoo: people.csv, column 'hat': 'green' was not met in training; taken for none\n"
    lines = [line.split(",") for line in said.out.splitlines()]
    assert lines[0] == ["path", "line", "kind"]
    assert [line[:2] for line in lines[1:]] == [["people.csv", "2"], ["people.csv", "3"]]
    assert float(lines[1][2]) == pytest.approx(130, abs=25)
    assert float(lines[2][2]) == pytest.approx(220, abs=40)


def test_classes_of_rows_are_told(cli: Any) -> None:
    result = trained("model=mlp", "model.width=32", "data=csv_table", "optimizer.lr=1e-2", "trainer.max_epochs=20")
    assert result.metrics["test/acc"] > 0.85, "irises"
    Path("found.csv").write_text(
        "petal_width,petal_length,sepal_width,sepal_length\n0.2,1.4,3.5,5.1\n2.0,5.9,3.0,6.8\n"
    )
    said = cli("predict", str(result.folder), "found.csv", "--top", "1")
    assert said.code == 0, said
    lines = [line.split(",") for line in said.out.splitlines()]
    assert lines[0] == ["path", "line", "class", "probability"]
    assert [line[2] for line in lines[1:]] == ["setosa", "virginica"]


def test_other_texts_than_those_of_training_are_none_of_them() -> None:
    table_of(people())
    data = CSVTable({}, path="people.csv")
    data.setup()
    x = encoded(csv_file.read(table_of([["1", "green", "2", "short"]])), data.normalisation)
    assert x[0, 1:3].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "words", "expected"),
    [
        ((), ["data.path=no.csv"], "no.csv: No such file"),
        ((), ["data.target=age"], "people.csv: has no column 'age'; it has id, hat, size, kind"),
        ((), ["data.ignore=[age]"], "people.csv: has no column 'age'"),
        ((3, 2, ""), [], "people.csv, line 5, column 'size': is empty"),
        ((3, 2, "big"), [], "people.csv, line 5, column 'size': 'big' is no number"),
        ((3, 3, ""), [], "people.csv, line 5, column 'kind': is empty"),
        ((3, 1, ""), [], "people.csv, line 5, column 'hat': is empty"),
        ((), ["data.target=id", "data.ignore=[hat]"], None),
        ((), ["data.ignore=[id,hat,size]"], "people.csv: has no column besides the target"),
        ((), ["data.splits=[0.98,0.01,0.01]"], "people.csv: has 60 rows, too few for three splits"),
        ((), ["data=csv_table_numbers", "task=regression"], "people.csv, line 2, column 'kind': 'short' is no number"),
    ],
)
def test_a_bad_table_is_told_in_one_line(
    change: tuple[int, int, str] | tuple[()], words: list[str], expected: str | None, cli: Any
) -> None:
    lines = people()
    if change:
        lines[change[0]][change[1]] = change[2]
    table_of(lines)
    said = cli("check", "model=mlp", "data=csv_table", "data.path=people.csv", "trainer=cpu", "logger=none", *words)
    if expected is None:
        assert said.code == 0, said
    else:
        assert expected in one_line(said)


def test_texts_and_classes_that_are_too_many_are_told() -> None:
    table_of([[row[0], f"hat {row[0]}", row[2], row[0]] for row in people(200)])
    with pytest.raises(UserError, match=r"column 'kind': has 200 different values, .*data=csv_table_numbers"):
        CSVTable({}, path="people.csv").setup()
    with pytest.raises(
        UserError, match=r"column 'hat': has 120 different texts, .* data\.ignore=\[hat\] leaves it out"
    ):
        CSVTable({}, path="people.csv", kind="numbers").setup()


def test_months_that_end_go_on_at_their_ends() -> None:
    ends = [datetime(2023, 12, 31), datetime(2024, 1, 31), datetime(2024, 2, 29), datetime(2024, 3, 31)]
    assert usual_step(ends) == 1
    assert [after(ends[-1], 1, times) for times in (1, 2)] == [datetime(2024, 4, 30), datetime(2024, 5, 31)]


def test_dates_without_dashes_are_dates_and_no_numbers() -> None:
    Path("compact.csv").write_text("when,x\n" + "".join(f"202401{day:02},{day}\n" for day in range(1, 20)))
    assert csv_file.date_column(csv_file.read("compact.csv")) == "when"
    Path("numbers.csv").write_text("count,x\n" + "".join(f"{20240100 + row},{row}\n" for row in range(1, 50)))
    assert csv_file.date_column(csv_file.read("numbers.csv")) is None


def test_large_numbers_keep_their_digits() -> None:
    known = {"mean": [1e7], "std": [0.5]}
    assert unscaled(torch.tensor([[0.25]]), known).item() == 1e7 + 0.125
