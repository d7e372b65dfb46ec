"""`predict`: the same answers as `evaluate`, of any files that people have, and one line where there are none."""

import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Said, one_line, trained
from PIL import Image
from torch import Tensor

from dl_zoo.commands import predict
from dl_zoo.commands.evaluate import evaluate
from dl_zoo.data.cifar10 import CIFAR10
from dl_zoo.data.digits import Digits
from dl_zoo.data.image_folder import ImageFolder
from dl_zoo.run import Result
from dl_zoo.zoo import load_run


def digits(count: int = 6) -> list[Tensor]:
    """(8, 8) uint8: the first of the test split."""
    images, _ = Digits({}).read()["test"]
    return list(images[:count, 0])


def saved(folder: Path, pictures: list[Tensor]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{n:03}.png" for n in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture.numpy()).save(file)
    return files


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_pictures_of_the_test_split_get_the_answers_that_evaluate_gives(
    finished: Result, tmp_path: Path, cli: Callable[..., Said]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    evaluate(folder)
    expected = table((folder / "predictions-test.csv").read_text())
    saved(tmp_path / "scans", digits(70))  # more than are asked about at once
    said = cli("predict", str(folder), str(tmp_path / "scans"))
    assert (said.code, said.err) == (0, "")
    rows = table(said.out)
    assert len(rows) == 70
    for row, known in zip(rows, expected[:70], strict=True):
        assert row["class"] == known["prediction"]
        assert float(row["probability"]) == pytest.approx(float(known["confidence"]), rel=1e-4)


def test_the_top_classes_follow_in_order_and_no_more_than_there_are(finished: Result, cli: Callable[..., Said]) -> None:
    saved(Path("scans"), digits(3))
    rows = table(cli("predict", str(finished.folder), "scans", "--top", "99").out)
    for row in rows:
        cells = list(row.values())[1:]
        assert sorted(cells[::2]) == list("0123456789")
        values = [float(cell) for cell in cells[1::2]]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-4)
    assert list(rows[0])[:5] == ["path", "class", "probability", "class_2", "probability_2"]
    only = cli("predict", "--top", "1", str(finished.folder), "scans").out
    assert only.splitlines()[0] == "path,class,probability"


def test_any_size_mode_and_format_is_read_as_the_data_were(finished: Result, cli: Callable[..., Said]) -> None:
    (scan,) = digits(1)
    image = Image.fromarray(scan.numpy())
    image.resize((64, 64), Image.Resampling.NEAREST).save("large.png")
    image.convert("RGB").save("colour.webp", lossless=True)
    wide = np.zeros((8, 20), np.uint8)
    wide[:, 6:14] = scan.numpy()
    Image.fromarray(wide).save("wide.bmp")
    image.save("plain.weird", format="PNG")  # named by a person: its ending does not matter
    rows = table(cli("predict", str(finished.folder), "plain.weird", "large.png", "colour.webp", "wide.bmp").out)
    assert [row["path"] for row in rows] == ["plain.weird", "large.png", "colour.webp", "wide.bmp"]
    plain = rows[0]
    for row in rows[1:]:
        assert row["class"] == plain["class"], row["path"]
        assert float(row["probability"]) == pytest.approx(float(plain["probability"]), abs=0.02), row["path"]


def test_words_are_files_folders_and_patterns_each_file_once(tmp_path: Path) -> None:
    top, below = saved(Path("a"), digits(1)), saved(Path("a/deep"), digits(2))
    for name in (".hidden.png", "._x.jpg", "notes.txt"):
        Path("a", name).write_bytes(b"x")
    Path("a/deep/UPPER.JPG").write_bytes(b"x")
    everything = [*top, *below, Path("a/deep/UPPER.JPG")]
    assert predict.picture_files(["a"]) == everything
    assert predict.picture_files(["a/deep/001.png", "a", "a/**/*.png"]) == [below[1], *top, below[0], everything[-1]]
    assert predict.picture_files(["a/**/0*.png"]) == [*top, *below]
    odd = saved(Path("odd[1]"), digits(1))  # brackets that are no pattern
    assert predict.picture_files(["odd[1]", "odd[1]/000.png"]) == odd


def test_what_cannot_be_read_is_named_and_the_rest_is_predicted(finished: Result, cli: Callable[..., Said]) -> None:
    good = saved(Path("scans"), digits(2))
    Path("scans/broken.jpg").write_bytes(b"no picture")
    Path("scans/half.png").write_bytes(good[0].read_bytes()[:60])
    said = cli("predict", str(finished.folder), "scans")
    assert said.code == 0
    assert [row["path"] for row in table(said.out)] == ["scans/000.png", "scans/001.png"]
    lines = said.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["scans/broken.jpg", "scans/half.png"]
    assert all(line.startswith("dl-zoo: ") and line.endswith("; left out") for line in lines)
    said = cli("predict", str(finished.folder), "scans/broken.jpg", "--output", "out")
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[-1] == "dl-zoo: none of the files could be read; nothing is predicted"
    assert not Path("out").exists()


def test_output_is_a_table_and_a_labelled_picture(
    finished: Result, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "SHOWN", 4)
    saved(Path("scans"), digits(7))
    said = cli("predict", str(finished.folder), "scans", "--output", "deep/out")
    assert said.code == 0
    assert said.out == "written      deep/out/predictions.csv, deep/out/predictions.png\n"
    assert len(table(Path("deep/out/predictions.csv").read_text())) == 7
    with Image.open("deep/out/predictions.png") as drawn:
        assert drawn.width > drawn.height > 100
        assert drawn.convert("L").getextrema() == (0, 255)


def test_the_picture_shows_each_with_its_class_under_it() -> None:
    each = [
        predict.Prediction(Path(f"{n}.png"), ("$cat$ 猫", "dog"), (0.75, 0.25), torch.full((3, 4, 4), n).byte())
        for n in range(8)
    ]
    (axes,) = (figure := predict.picture(each, 8)).axes
    assert len(axes.images) == 8
    captions = [text.get_text() for text in axes.texts]
    assert captions[:2] == ["$cat$ 猫  0.75", "0.png"]
    for image, text in zip(axes.images, axes.texts[::2], strict=True):
        left, right, bottom, _ = image.get_extent()
        assert left < text.get_position()[0] < right
        assert 0 < text.get_position()[1] - bottom < 0.3
    assert figure.get_suptitle().startswith("8 pictures")


def test_the_dataset_need_not_be_there_and_classes_are_the_checkpoints(
    finished: Result, tmp_path: Path, cli: Callable[..., Said]
) -> None:
    def change(ours: dict) -> None:
        ours["classes"] = [f"digit {n}" for n in range(10)]
        ours["config"]["data"]["_target_"] = "dl_zoo.data.mnist.MNIST"
        del ours["config"]["data"]["split"]
        ours["config"]["data"]["data_dir"] = ours["config"]["data_dir"] = "/not/there"

    content = torch.load(finished.folder / "checkpoints" / "best.ckpt", weights_only=True)
    change(content["dl_zoo"])
    torch.save(content, "mnist.ckpt")
    files = saved(Path("scans"), digits(1))
    rows = table(cli("predict", "mnist.ckpt", str(files[0])).out)
    assert rows[0]["class"].startswith("digit ")
    assert predict.own_size(_data("mnist.ckpt")) == 28
    drawn = predict.opened(_data("mnist.ckpt"), files[0])
    assert isinstance(drawn, Tensor)
    assert drawn.shape == (1, 32, 32)
    assert drawn[:, :2].sum() == 0  # framed, not enlarged


def test_each_kind_of_data_fits_new_pictures_in_its_own_way(tmp_path: Path) -> None:
    (file,) = saved(
        tmp_path, [torch.arange(0, 250, 2, dtype=torch.uint8).expand(125, 125)]
    )  # a ramp from left to right
    dims = {"channels": 3}
    folder = ImageFolder(dims, path="not/there", image_size=24, resize=32)  # decoded at 32, and 24 of them are left
    cifar = CIFAR10(dims, data_dir="not/there", image_size=64)  # decoded at 32, then enlarged
    for data, width in ((folder, 32), (cifar, 64)):
        picture = predict.opened(data, file)
        assert isinstance(picture, Tensor)
        assert (picture.shape, picture.dtype) == ((3, width, width), torch.uint8)
        assert picture[0, 0].diff().ge(0).all()
    folder.classes = ["a", "b"]
    folder.splits = {"test": (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(2).long())}
    folder.normalisation = {"mean": [0.0] * 3, "std": [1.0] * 3}
    assert next(iter(folder.loader("test")))[0].shape == (2, 3, 24, 24)


def _data(path: str) -> object:
    return load_run(path).data


def test_what_evaluation_does_to_pictures_is_done_here(finished: Result, cli: Callable[..., Said]) -> None:
    files = saved(Path("scans"), digits(3))
    for name, change in {"one": {"resize": 40}, "ten": {"resize": 40, "views": 10}}.items():
        content = torch.load(finished.folder / "checkpoints" / "best.ckpt", weights_only=True)
        content["dl_zoo"]["config"]["data"].update(change)
        torch.save(content, f"{name}.ckpt")
    one, ten = (table(cli("predict", f"{name}.ckpt", "scans").out) for name in ("one", "ten"))
    run = load_run("ten.ckpt")
    run.data.setup()
    inputs, targets = next(iter(run.data.loader("test")))  # enlarged to 40, ten views of 32 each
    with torch.no_grad():
        each = run.net.eval()(inputs).softmax(1).unflatten(0, (len(targets), 10))
    for row, mean, centre in zip(ten, each.mean(1), each[:, 4], strict=False):
        assert float(row["probability"]) == pytest.approx(float(mean.max()), rel=1e-4)
        assert row["class"] == str(int(mean.argmax()))
        assert float(one[ten.index(row)]["probability"]) == pytest.approx(float(centre.max()), rel=1e-4)
    assert len(ten) == len(files)


def test_normalisation_is_the_checkpoints(finished: Result, cli: Callable[..., Said]) -> None:
    files = saved(Path("scans"), digits(1))
    content = torch.load(finished.folder / "checkpoints" / "best.ckpt", weights_only=True)
    content["dl_zoo"]["normalisation"] = {"mean": [0.9], "std": [0.1]}
    torch.save(content, "other.ckpt")
    one, other = (table(cli("predict", str(p), str(files[0])).out)[0] for p in (finished.folder, "other.ckpt"))
    assert one["probability"] != other["probability"]


@pytest.mark.parametrize("change", [["model=mlp", "data=two_spirals"], ["task.loss=triplet"]])
def test_a_run_that_is_no_classifier_of_pictures(change: list[str], cli: Callable[..., Said]) -> None:
    saved(Path("scans"), digits(1))
    folder = trained(*change, "trainer.max_epochs=0").folder
    assert "; predict knows only " in one_line(cli("predict", str(folder), "scans"))


def test_bad_words_are_one_line_and_leave_nothing(finished: Result, cli: Callable[..., Said]) -> None:
    run = str(finished.folder)
    Path("empty").mkdir()
    Path("afile").write_text("x")
    for words, line in {
        (run, "nowhere.png"): "nowhere.png: there is no such file, folder or pattern of files",
        (run, "*.gif"): "*.gif: there is no such file, folder or pattern of files",
        (run, "empty"): "empty: holds no pictures, by their names' endings; name the files themselves",
        (run, "afile", "--top", "0"): "--top 0: must be at least 1",
        ("nowhere", "afile"): "nowhere: there is no such run folder or checkpoint",
        (run, "afile", "--output", "afile/x"): f"--output afile/x: {Path.cwd()}/afile is a file; name another folder",
    }.items():
        assert one_line(cli("predict", *words)) == f"dl-zoo: {line}"
    assert "afile is damaged" in one_line(cli("predict", "afile", "afile"))
    assert {path.name for path in Path().iterdir()} == {"empty", "afile"}


def test_a_name_of_other_bytes_is_shown(finished: Result, cli: Callable[..., Said]) -> None:
    (file,) = saved(Path("scans"), digits(1))
    try:
        file.rename("scans/\udcff.png")
    except OSError:
        pytest.skip("this file system takes no such name")
    said = cli("predict", str(finished.folder), "scans")
    assert table(said.out)[0]["path"] == "scans/\\udcff.png"


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from dl_zoo.commands import predict, export\n"
        "for each in (predict, export):\n"
        "    try: each.main(['--help'])\n"
        "    except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
