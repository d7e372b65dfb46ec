"""Pictures of one's own: opening them, folders and tars of them, ImageNet's layout, the cache, decoding on the fly."""

import io
import logging
import os
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dl_zoo.data import cache
from dl_zoo.data.decoding import Unreadable, decoded
from dl_zoo.data.image_folder import ImageFolder
from dl_zoo.data.imagenet import ImageNet
from dl_zoo.data.sources import Files
from dl_zoo.errors import UserError

COLOURS = {"ant": (200, 0, 0), "bee": (0, 200, 0), "cat": (0, 0, 200)}
SETTINGS: dict[str, Any] = {"mean": [0.0] * 3, "std": [1.0] * 3, "image_size": 8, "batch_size": 4}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DL_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(image: Image.Image, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **settings)
    return file.getvalue()


def filled(root: Path, items: int = 10) -> Path:
    """`items` pictures of each class, of the class's colour, and of a green that is the picture's number."""
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(items):
            red, _, blue = colour
            (root / name / f"{i:02}.png").write_bytes(png(Image.new("RGB", (12, 10), (red, 5 * i, blue))))
    return root


def folder(path: Path, **settings: Any) -> ImageFolder:
    data = ImageFolder({}, path=str(path), data_dir="data", **{**SETTINGS, **settings})
    data.setup()
    return data


# ---- opening ---------------------------------------------------------------------------------------------------------


def test_decoded_is_the_centre_brought_to_size() -> None:
    wide = Image.new("RGB", (30, 10))
    wide.paste((0, 100, 200), (10, 0, 20, 10))
    for size in (5, 10, 20):
        picture = decoded(png(wide), 3, size)
        assert (picture.dtype, tuple(picture.shape)) == (torch.uint8, (3, size, size))
        assert picture.is_contiguous()
        assert (picture == torch.tensor([0, 100, 200]).view(3, 1, 1)).float().mean() > 0.7
    assert (decoded(png(wide), 3, 10) == torch.tensor([0, 100, 200]).view(3, 1, 1)).all(), "left as it is"


def test_decoded_is_torchvisions_resize_and_crop() -> None:
    import torchvision.transforms.v2.functional as transforms

    rows, columns = np.mgrid[0:150, 0:200]
    image = Image.fromarray(((rows + columns) * 255 / 348).astype(np.uint8)).convert("RGB")
    theirs = transforms.pil_to_tensor(transforms.center_crop(transforms.resize(image, [60]), [60]))
    assert (decoded(png(image), 3, 60).int() - theirs.int()).abs().max() <= 2, "to a fraction of a pixel"


def test_decoded_turns_as_exif_says() -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise
    plain, turned = decoded(png(image), 1, 8), decoded(png(image, exif=exif), 1, 8)
    assert torch.equal(turned, plain.rot90(-1, (1, 2)))


def test_decoded_converts_what_is_neither_grey_nor_rgb() -> None:
    deep = Image.fromarray(np.full((4, 4), 200 * 256, np.uint16))
    assert decoded(png(deep), 3, 4).unique().tolist() == [200]
    assert decoded(png(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), 3, 4).unique().tolist() == [255], "on white"
    assert decoded(png(Image.new("RGB", (4, 4), (100, 100, 100))), 1, 4).shape == (1, 4, 4)
    palette = Image.new("RGB", (4, 4), (10, 20, 30)).convert("P")
    assert decoded(png(palette, transparency=b"\xff" * 3), 3, 4).shape == (3, 4, 4)


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_picture(content: bytes) -> None:
    with pytest.raises(Unreadable, match=r"^is no picture of a known format"):
        decoded(content, 3, 8)


def test_a_truncated_picture_is_unreadable() -> None:
    whole = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)).save(whole, "JPEG")
    with pytest.raises(Unreadable, match="truncated"):
        decoded(whole.getvalue()[:1500], 3, 8)


# ---- layouts ---------------------------------------------------------------------------------------------------------


def test_classes_alone_are_split_by_shares(tmp_path: Path) -> None:
    data = folder(filled(tmp_path / "mine", 20), val_share=0.2, test_share=0.1)
    assert (data.classes, data.sizes) == (["ant", "bee", "cat"], {"train": 42, "val": 12, "test": 6})
    assert data.dims == {"channels": 3, "image_size": 8, "features": 192, "num_classes": 3}
    assert data.splits["val"][1].bincount().tolist() == [4, 4, 4]
    seen = set()
    for images, y in data.splits.values():
        assert (images[:, 0, 0, 0] == torch.tensor([200, 0, 0])[y]).all(), "of its class"
        seen |= {(int(label), int(number)) for label, number in zip(y, images[:, 1, 0, 0], strict=True)}
    assert len(seen) == 60, "each once"
    again = folder(tmp_path / "mine", val_share=0.2, test_share=0.1, seed=5)
    assert all(torch.equal(again.splits[part][0], data.splits[part][0]) for part in data.splits)


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        (("train",), {"train": 22, "val": 4, "test": 4}),
        (("train", "val"), {"train": 26, "val": 4, "test": 30}),
        (("train", "test"), {"train": 26, "val": 4, "test": 30}),
        (("train", "valid", "test"), {"train": 30, "val": 30, "test": 30}),
    ],
)
def test_parts(parts: tuple[str, ...], sizes: dict[str, int], tmp_path: Path) -> None:
    for part in parts:
        filled(tmp_path / "mine" / part)
    data = folder(tmp_path / "mine")
    assert data.sizes == sizes
    assert data.classes == ["ant", "bee", "cat"]


@pytest.mark.parametrize(("kind", "inside"), [("", "."), (".gz", "./"), (".xz", "mine")])
def test_a_tar_is_as_its_folder(kind: str, inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "mine")
    with tarfile.open(tmp_path / f"mine.tar{kind}", f"w:{kind[1:]}") as tar:
        tar.add(tmp_path / "mine", inside)
    one, other = folder(tmp_path / "mine"), folder(tmp_path / f"mine.tar{kind}")
    for part in one.splits:
        assert all(torch.equal(a, b) for a, b in zip(one.splits[part], other.splits[part], strict=True))
    monkeypatch.setattr("dl_zoo.data.tars.tarfile.open", None)  # a second reading would fail
    assert folder(tmp_path / f"mine.tar{kind}").classes == one.classes


def test_nested_folders_and_hidden_files(tmp_path: Path) -> None:
    root = filled(tmp_path / "mine")
    (root / "ant/more/deep").mkdir(parents=True)
    (root / "ant/more/deep/x.png").write_bytes(png(Image.new("RGB", (8, 8))))
    (root / ".hidden").mkdir()
    (root / "ant/.DS_Store").write_bytes(b"x")
    (root / "README.txt").write_text("about")
    data = folder(root)
    assert sum(data.sizes.values()) == 31
    assert data.classes == ["ant", "bee", "cat"]


def test_grey_and_one_channel(tmp_path: Path) -> None:
    root = filled(tmp_path / "mine")
    (root / "ant/grey.png").write_bytes(png(Image.new("L", (8, 8), 77)))
    assert folder(root).splits["train"][0].shape[1] == 3
    data = folder(root, channels=1, mean=[0.5], std=[0.5])
    assert (data.dims["channels"], data.splits["train"][0].shape[1]) == (1, 1)


def test_a_part_of_the_classes_and_of_the_labels(tmp_path: Path) -> None:
    data = folder(filled(tmp_path / "mine"), classes=["cat", "ant"], labels_per_class=3)
    assert (data.classes, data.dims["num_classes"]) == (["cat", "ant"], 2)
    assert data.splits["train"][1].bincount().tolist() == [3, 3]
    assert (data.splits["test"][0][:, 2, 0, 0] == torch.tensor([200, 0])[data.splits["test"][1]]).all()


# ---- what people have ------------------------------------------------------------------------------------------------


def spoil(root: Path, what: str) -> dict[str, Any]:
    if what == "empty class":
        (root / "dog").mkdir()
    elif what == "one class":
        for name in ("bee", "cat"):
            (root / name).rename(root.parent / name)
    elif what == "no classes":
        for name in COLOURS:
            (root / name).rename(root.parent / name)
        (root / "x.png").write_bytes(b"x")
    elif what == "all unreadable":
        for path in (root / "bee").iterdir():
            path.write_bytes(b"x")
    elif what == "strange class":
        for name in COLOURS:
            (root / name).rename(root.parent / name)
        filled(root / "train")
        filled(root / "val")
        (root / "val/ant").rename(root / "val/ape")
    elif what == "many labels":
        return {"labels_per_class": 50}
    return {}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty class", "the class folder dog is empty: fill or remove it"),
        ("one class", "has one class only, ant: a classifier needs two"),
        ("no classes", "holds no pictures in class folders: expected DIR/<class>/ or DIR/train/<class>/"),
        ("all unreadable", "class bee has no readable picture left to train on: add some"),
        ("strange class", "class ape is not among the training pictures"),
        ("many labels", "data.labels_per_class=50: class ant has 8 training picture(s)"),
    ],
)
def test_bad_folders_are_told_before_training(what: str, message: str, tmp_path: Path) -> None:
    root = filled(tmp_path / "a/mine")
    settings = spoil(root, what)
    with pytest.raises(UserError) as error:
        folder(root, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"no tar", b"\x1f\x8b\x08\x00broken"])
def test_no_such_path_and_no_tar(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(UserError, match="there is no such folder or tar" if content is None else "cannot be read"):
        folder(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"path": None}, "data.path: must name a folder"),
        ({"channels": 2}, "data.channels=2: must be 1"),
        ({"val_share": 0}, "data.val_share=0: must be above 0"),
        ({"val_share": 0.6, "test_share": 0.4}, "data.val_share=0.6 and data.test_share=0.4 leave nothing"),
    ],
)
def test_bad_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        ImageFolder({}, **{"path": "x", **SETTINGS, **setting})
    assert str(error.value).startswith(message)


def test_unreadable_files_are_left_out_and_told_in_one_line(
    tmp_path: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = filled(tmp_path / "mine")
    for i in range(5):
        (root / f"ant/bad{i}.jpg").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING, "dl_zoo"):
        data = folder(root)
    assert sum(data.sizes.values()) == 30
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("5 unreadable picture(s) left out: ant/bad0.jpg is no picture")
    listed = next(own_cache.glob("*/unreadable.txt"))
    assert line.endswith(str(listed))
    assert len(listed.read_text().splitlines()) == 5


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_a_second_start_decodes_nothing_and_a_changed_file_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = filled(tmp_path / "mine")
    first = folder(root)
    real = cache.decoded
    monkeypatch.setattr(cache, "decoded", None)
    again = folder(root)
    assert all(torch.equal(again.splits[part][0], first.splits[part][0]) for part in first.splits)
    monkeypatch.setattr(cache, "decoded", real)
    os.utime(root / "ant/00.png", ns=(0, 0))
    assert folder(root).sizes == first.sizes
    assert len(list((tmp_path / "cache").glob("mine-*"))) == 2


def test_a_killed_decoding_is_begun_anew(tmp_path: Path, own_cache: Path) -> None:
    root = filled(tmp_path / "mine")
    folder(root)
    (entry,) = own_cache.glob("mine-*")
    scratch = entry.with_name(f".{entry.name}.new")
    entry.rename(scratch)
    assert folder(root).sizes["train"] == 22
    assert not scratch.exists()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DL_ZOO_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(UserError, match=r"cannot be written .*DL_ZOO_CACHE names another folder"):
        folder(filled(tmp_path / "mine"))


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DL_ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder(str(tmp_path / "data")) == tmp_path / "data/.cache"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cache.folder(str(tmp_path / "data")) == tmp_path / "xdg/dl_zoo"


def test_decoding_on_the_fly_gives_the_same_batches(tmp_path: Path) -> None:
    root = filled(tmp_path / "mine")
    kept = folder(root, resize=10)
    assert isinstance(kept.splits["train"][0], torch.Tensor)
    (tmp_path / "cache").rename(tmp_path / "away")
    fly = folder(root, resize=10, cache_gb=0)
    assert isinstance(fly.splits["train"][0], Files)
    assert fly.dims == kept.dims
    one, other = kept.loader("train", shuffle=True), fly.loader("train", shuffle=True)
    pairs = list(zip(one, other, strict=True))
    assert all(torch.equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))
    other.load_state_dict({"epoch": 0, "batch": 3})
    for (x, y), (u, v) in zip(pairs_from(one, 3), islice(other, 2), strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)


def pairs_from(loader: Any, batch: int) -> Any:
    loader.load_state_dict({"epoch": 0, "batch": batch})
    return islice(loader, 2)


def test_a_file_that_is_lost_on_the_way_is_black(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    picture = Files([tmp_path / "x.png"], 3, 4).index_select(0, torch.tensor([0]))
    assert picture.tolist() == torch.zeros(1, 3, 4, 4).tolist()
    assert "a black picture stands for it" in caplog.text


def test_a_tar_that_does_not_fit(tmp_path: Path) -> None:
    filled(tmp_path / "mine")
    with tarfile.open(tmp_path / "mine.tar", "w") as tar:
        tar.add(tmp_path / "mine", ".")
    with pytest.raises(UserError, match=r"raise data\.cache_gb, make room in .*, or unpack it"):
        folder(tmp_path / "mine.tar", cache_gb=0)


def test_check_needs_no_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ImageFolder({}, path=str(filled(tmp_path / "mine")), **SETTINGS)
    monkeypatch.setattr(cache, "decoded", None)
    data.pretend(5)
    assert data.dims["num_classes"] == 3
    assert not (tmp_path / "cache").exists()


# ---- ImageNet --------------------------------------------------------------------------------------------------------


def imagenet(path: Path, **settings: Any) -> ImageNet:
    data = ImageNet({}, path=str(path), val_items=6, **{**SETTINGS, **settings})
    data.setup()
    return data


def flat(root: Path) -> Path:
    filled(root / "train")
    (root / "val").mkdir()
    for i in range(6):
        colour = tuple(COLOURS.values())[i % 3]
        (root / f"val/ILSVRC2012_val_{i:08}.JPEG").write_bytes(png(Image.new("RGB", (8, 8), colour)))
    return root


@pytest.mark.parametrize("labels", ["order", "names", "kaggle"])
def test_imagenet_with_a_flat_val_folder(labels: str, tmp_path: Path) -> None:
    root = flat(tmp_path / "imagenet")
    rows = [(f"ILSVRC2012_val_{i:08}", tuple(COLOURS)[i % 3]) for i in range(6)]
    if labels == "kaggle":
        text = "ImageId,PredictionString\n" + "".join(f"{name},{wnid} 1 2 3 4\n" for name, wnid in reversed(rows))
        (root / "LOC_val_solution.csv").write_text(text)
    else:
        lines = [wnid if labels == "order" else f"{name}.JPEG {wnid}" for name, wnid in rows]
        (root / "val_labels.txt").write_text("\n".join(lines))
    data = imagenet(root)
    assert data.sizes == {"train": 24, "val": 6, "test": 6}
    images, y = data.splits["test"]
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2, 2]
    assert (images[:, 0, 0, 0] == torch.tensor([200, 0, 0])[y]).all()


def test_imagenet_with_class_folders(tmp_path: Path) -> None:
    filled(tmp_path / "imagenet/train")
    filled(tmp_path / "imagenet/val", 2)
    assert imagenet(tmp_path / "imagenet").sizes == {"train": 24, "val": 6, "test": 6}


def test_imagenet_says_what_is_expected_where(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train and val not found in .*nowhere, where train/<wnid>/\*\.JPEG"):
        imagenet(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"their labels are expected in .*val_labels\.txt"):
        imagenet(flat(tmp_path / "imagenet"))
    (tmp_path / "imagenet/val_labels.txt").write_text("ant\n")
    with pytest.raises(UserError, match="has no label for 6 of 6 pictures, such as ILSVRC2012_val_00000000"):
        imagenet(tmp_path / "imagenet")


def test_the_first_items_of_a_split_are_of_several_classes(tmp_path: Path) -> None:
    """Files come by class: an evaluation of a few batches would else see one class alone."""
    for part in ("train", "val", "test"):
        filled(tmp_path / "pictures" / part)
    splits = folder(tmp_path / "pictures").splits
    for name in ("val", "test"):
        assert len(splits[name][1][:10].unique()) == 3
