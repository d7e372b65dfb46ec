"""What generative runs show, measure and leave in files: one small run of each kind, and one line for each misuse."""

import io
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Said, assert_same, one_line
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dl_zoo import checkpoints, making, pretrained
from dl_zoo.callbacks.gallery import gallery, over
from dl_zoo.compose import compose
from dl_zoo.run import Result, run
from dl_zoo.tasks import generating
from dl_zoo.trained import load

SMALL = ["trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=3", "optimizer.lr=1e-3"]
PICTURES = ["data=digits", "task.features=zoo:lenet5-mnist", "task.samples=40"]
RUNS = {
    "vae": ["model=vae", *PICTURES, "task.val_samples=20", "model.width=16", "model.latents=2"],
    "told": ["model=vae", *PICTURES, "model.width=16", "model.conditional=true"],
    "gan": ["model=dcgan32", *PICTURES, "model.width=4", "data.batch_size=16"],
    "diffusion": ["model=ddpm_points", "data=ring", "task.samples=100", "task.steps=8", "task.schedule=cosine"],
}
OF_PICTURES = {
    "fid_lenet",
    "fid_floor",
    "is_lenet",
    "precision",
    "recall",
    "classes",
    "confident",
    "entropy",
    "nearest",
}
DRAWN = {
    "vae": {"generated", "interpolation", "latent_plane"},
    "told": {"generated", "interpolation"},
    "gan": {"generated", "interpolation"},
    "diffusion": {"points", "chain"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Read them, copy them, but do not change them."""
    folder = tmp_path_factory.mktemp("generated")
    return {
        name: run(compose([*words, *SMALL, f"run_dir={folder / name}"]), quiet=True) for name, words in RUNS.items()
    }


def images(folder: Path) -> dict[str, list[np.ndarray]]:
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {
        tag: [np.asarray(Image.open(io.BytesIO(each.encoded_image_string))) for each in events.Images(tag)]
        for tag in events.Tags()["images"]
    }


# ---- what is measured ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vae", "told", "gan"])
def test_pictures_are_measured_beside_the_floor(name: str, runs: dict[str, Result]) -> None:
    found = runs[name].metrics
    assert {f"test/{measure}" for measure in OF_PICTURES} <= found.keys()
    assert found["test/fid_lenet"] > 2 * found["test/fid_floor"] > 0  # nothing is learnt in six steps
    assert ("val/fid_lenet" in found) == (name == "vae")  # `val_samples`
    assert name != "vae" or found["val/fid_floor"] != found["test/fid_floor"]


def test_points_are_measured_by_their_modes(runs: dict[str, Result]) -> None:
    found = runs["diffusion"].metrics
    assert 0 <= found["test/modes"] <= 8
    assert 0 <= found["test/high_quality"] < 0.5
    assert "val/modes" not in found


def test_copies_of_training_pictures_are_found_out(runs: dict[str, Result]) -> None:
    """Real pictures in place of samples: all is as good as the floor, but they are no news."""
    task = measured(runs["vae"])
    known = task.trainer.datamodule.splits["train"][0]
    task.generate = lambda noise, classes=None: known[torch.arange(len(noise)) * 7 % len(known)] / 255
    found = generating.quality(task, "test")
    assert found["nearest"] == 0
    assert found["fid_lenet"] < 2 * found["fid_floor"]
    assert found["classes"] >= 8  # of 40 digits
    task.generate = lambda noise, classes=None: torch.full((len(noise), 1, 8, 8), torch.nan)
    with pytest.raises(FloatingPointError, match="what it makes up is not finite"):
        generating.quality(task, "test")


def test_measures_are_the_same_twice_and_leave_no_trace(runs: dict[str, Result]) -> None:
    task = measured(runs["told"])
    before = torch.get_rng_state(), task.state_dict()
    first = generating.quality(task, "test")
    assert first == generating.quality(task, "test")
    assert first == pytest.approx({name: runs["told"].metrics[f"test/{name}"] for name in first}, rel=1e-6)
    assert_same((torch.get_rng_state(), task.state_dict()), before)
    assert not any("features" in key for key in task.state_dict())


def measured(result: Result) -> Any:
    class Trainer:
        world_size = 1

    found = load(result.folder)
    found.data.setup()
    found.task._trainer = Trainer()
    found.task._trainer.datamodule = found.data
    return found.task


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task.features=nowhere"], "task.features=nowhere: nowhere: there is no such run folder or checkpoint"),
        (["task.features=zoo:gpt_char-tinyshakespeare"], "is no classifier of pictures"),
        (["task.features=inception"], "task.features=inception"),
    ],
)
def test_features_that_cannot_be_had_are_told_before_the_run(
    words: list[str], said: str, cli: Callable[..., Said]
) -> None:
    for command in ("train", "check"):
        assert said in one_line(cli(command, "model=vae", "data=digits", *words))
    assert not Path("runs").exists()


def test_a_run_is_sampled_without_its_classifier(
    cli: Callable[..., Said], runs: dict[str, Result], tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(runs["vae"].folder, folder)
    content = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    content["dl_zoo"]["config"]["task"]["features"] = "gone"
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    assert cli("sample", str(folder), "--n", "1").code == 0
    assert "task.features=gone" in one_line(cli("evaluate", str(folder)))


# ---- what is drawn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_what_is_drawn(name: str, runs: dict[str, Result]) -> None:
    found = images(runs[name].folder)
    assert {tag.removeprefix("samples/") for tag in found if tag.startswith("samples/")} == DRAWN[name]
    each_epoch = found.get("samples/generated") or found["samples/points"]
    assert len(each_epoch) == 2
    assert (each_epoch[0] != each_epoch[1]).any()  # the same noise, another net
    again = {"reconstructions/val", "reconstructions/test"} if name in ("vae", "told") else set()
    assert {tag for tag in found if tag.startswith("reconstructions/")} == again


@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_a_run_with_pictures_equals_one_without_to_the_bit(name: str, runs: dict[str, Result], tmp_path: Path) -> None:
    plain = run(compose([*RUNS[name], *SMALL, f"run_dir={tmp_path / 'plain'}", "pictures=false"]), quiet=True)
    assert plain.metrics == runs[name].metrics
    states = [checkpoints.read(checkpoints.find(each.folder, "last")) for each in (plain, runs[name])]
    for state in states:
        for key in ("pictures", "data_dir"):
            del state["dl_zoo"]["config"][key]
        state["dl_zoo"]["config"]["data"].pop("data_dir")
    assert_same(*states)


def test_a_resumed_run_draws_the_same(runs: dict[str, Result], tmp_path: Path) -> None:
    words = [*RUNS["vae"], *SMALL, f"run_dir={tmp_path / 'cut'}"]
    run(compose([*words, "trainer.max_epochs=1"]), quiet=True)
    run(compose([*words, f"resume={tmp_path / 'cut'}"]), quiet=True)
    ours, theirs = (images(folder)["samples/generated"][-1] for folder in (tmp_path / "cut", runs["vae"].folder))
    assert (ours == theirs).all()


def test_pictures_side_by_side() -> None:
    pictures = torch.linspace(0, 1, 6).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    sheet = gallery(pictures, 4, gap=2, wide=16)  # twice their size; two rows of four and two
    assert sheet.shape == (2 * 18 + 2, 4 * 18 + 2, 3)
    assert [int(sheet[2, 2 + 18 * n, 0]) for n in range(4)] == [0, 51, 102, 153]
    assert int(sheet[20, 2, 0]) == 204
    pairs = over(pictures[:4], 1 - pictures[:4], 2)
    assert [int(pairs[y, 4, 0]) for y in (4, 64, 128, 188)] == [0, 255, 102, 153]


def test_the_way_between_two_noises_keeps_their_length() -> None:
    ends = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    way = making.between(*ends, 5).view(3, 5, 5, 7)
    assert torch.allclose(way[:, [0, -1]], ends.transpose(0, 1), atol=1e-5)
    lengths = way.flatten(2).norm(dim=2)
    assert (lengths > 0.98 * lengths[:, [0, -1]].amin(1, keepdim=True)).all()  # a straight line has 0.7 half way
    assert torch.allclose(making.between(ends[0], ends[0], 3), ends[0].repeat_interleave(3, 0), atol=1e-5)


# ---- dl-zoo sample -------------------------------------------------------------------------------------------------


def sampled(cli: Callable[..., Said], result: Result, *arguments: str) -> dict[str, bytes]:
    where = f"out{len(list(Path().iterdir()))}"
    said = cli("sample", str(result.folder), "--out", where, *arguments)
    assert (said.code, said.err) == (0, ""), said
    assert said.out.startswith(f"written      {where}: grid.png and ")
    return {path.name: path.read_bytes() for path in Path(where).iterdir()}


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_pictures_are_written_one_by_one_and_together(
    name: str, cli: Callable[..., Said], runs: dict[str, Result]
) -> None:
    files = sampled(cli, runs[name], "--n", "5")
    assert sorted(files) == ["000.png", "001.png", "002.png", "003.png", "004.png", "grid.png"]
    size = {"vae": 8, "gan": 32}[name]
    one = Image.open(io.BytesIO(files["003.png"]))
    assert (one.size, one.mode) == ((size, size), "L")
    task = load(runs[name].folder).task
    expected = (making.samples(task, 5, None, 0) * 255).round().byte()[3, 0].numpy()
    assert (np.asarray(one) == expected).all()
    assert Image.open(io.BytesIO(files["grid.png"])).size[0] > 5 * size


def test_equal_seeds_give_equal_pictures(cli: Callable[..., Said], runs: dict[str, Result]) -> None:
    before = torch.get_rng_state()
    first = sampled(cli, runs["vae"], "--n", "9")
    assert first == sampled(cli, runs["vae"], "--n", "9", "--seed", "0")
    other = sampled(cli, runs["vae"], "--n", "9", "--seed", "1")
    assert all(first[name] != other[name] for name in first)
    assert torch.equal(before, torch.get_rng_state())


def test_classes_that_are_asked_for(cli: Callable[..., Said], runs: dict[str, Result]) -> None:
    files = sampled(cli, runs["told"], "--n", "4", "--classes", "3,7")
    assert sorted(files) == ["000-3.png", "001-7.png", "002-3.png", "003-7.png", "grid.png"]
    every = sampled(cli, runs["told"], "--n", "12")
    assert {"000-0.png", "009-9.png", "010-0.png"} <= every.keys()
    three = sampled(cli, runs["told"], "--n", "1", "--class", "3")
    assert three["000-3.png"] == files["000-3.png"] != every["000-0.png"]


def test_the_way_from_sample_to_sample(cli: Callable[..., Said], runs: dict[str, Result]) -> None:
    files = sampled(cli, runs["gan"], "--n", "16", "--interpolate")
    pictures = [np.asarray(Image.open(io.BytesIO(files[f"{i:03}.png"]))).astype(int) for i in range(16)]
    steps = [abs(a - b).sum() for a, b in pairwise(pictures)]
    assert max(steps[:7]) < abs(pictures[0] - pictures[7]).sum()
    assert "--interpolate: is for pictures" in one_line(cli("sample", str(runs["diffusion"].folder), "--interpolate"))


def test_points_are_a_table(cli: Callable[..., Said], runs: dict[str, Result]) -> None:
    files = sampled(cli, runs["diffusion"], "--n", "30")
    assert sorted(files) == ["grid.png", "points.csv"]
    lines = files["points.csv"].decode().splitlines()
    assert (lines[0], len(lines)) == ("x,y", 31)
    expected = making.samples(load(runs["diffusion"].folder).task, 30, None, 0)
    assert np.allclose([[*map(float, line.split(","))] for line in lines[1:]], expected, atol=1e-4)


def test_nothing_is_overwritten(cli: Callable[..., Said], runs: dict[str, Result], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["vae"].folder, folder)
    for where in ("seed0", "seed0-2"):
        assert (
            f"written      {folder / 'samples' / where}: grid.png and 1 file\n"
            == cli("sample", str(folder), "--n", "1").out
        )
    assert "seed0-interpolation: grid.png and 8 files" in cli("sample", str(folder), "--n", "8", "--interpolate").out
    line = one_line(cli("sample", str(folder), "--out", str(folder)))
    assert "is there already, and nothing is overwritten; name another folder" in line
    file = tmp_path / "alone.ckpt"
    shutil.copy(checkpoints.find(folder), file)
    assert cli("sample", str(file), "--n", "1").out.startswith("written      samples/alone/seed0: ")


def test_what_ships_is_sampled_by_name(
    cli: Callable[..., Said], runs: dict[str, Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "weights")
    checkpoints.publish(runs["vae"].folder, "vae-digits", licence="CC BY 4.0")
    assert cli("sample", "zoo:vae-digits", "--n", "2").out.startswith("written      samples/vae-digits/seed0: ")
    assert Path("samples/vae-digits/seed0/001.png").read_bytes() == sampled(cli, runs["vae"], "--n", "2")["001.png"]


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("vae", ["--n", "0"], "--n 0: must be at least 1"),
        ("vae", ["--n", "12", "--interpolate"], "--n 12: with --interpolate a multiple of 8"),
        ("vae", ["--seed", "-1"], "--seed -1: must be from 0"),
        ("vae", ["--class", "3"], "was trained without classes; leave it out"),
        ("told", ["--class", "3,ten"], "knows no class 'ten'; there are 0, 1, 2, 3"),
        ("vae", ["--prompt", "a"], "--prompt: for language models"),
        ("vae", ["--length", "9", "--temperature", "0"], "--length, --temperature: for language models"),
        ("vae", ["--checkpoint", "first"], "argument --checkpoint: invalid choice: 'first'"),
    ],
)
def test_misuse_is_told(
    name: str, arguments: list[str], said: str, cli: Callable[..., Said], runs: dict[str, Result]
) -> None:
    assert said in one_line(cli("sample", str(runs[name].folder), *arguments))
    assert not (runs[name].folder / "samples").exists()


def test_options_of_pictures_are_none_of_texts(cli: Callable[..., Said]) -> None:
    line = one_line(cli("sample", "zoo:gpt_char-tinyshakespeare", "--prompt", "A", "--n", "3", "--class", "2"))
    assert "--n, --class: for runs that make pictures up" in line


@pytest.mark.parametrize("arguments", [[], ["--n", "3"], ["--prompt", "Now"]])
def test_a_run_that_makes_nothing_up_is_told(arguments: list[str], cli: Callable[..., Said]) -> None:
    line = one_line(cli("sample", "zoo:lenet5-mnist", *arguments))
    assert "its task makes nothing up; sample is for language models, and for task=vae, gan and diffusion" in line
