"""CIFAR-10 and CIFAR-100 on disk, from small batches and a local server; and CIFAR-10 as JPEGs, real where at hand."""

import hashlib
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.datasets
import yaml
from torch import Tensor

from dl_zoo.data import cache
from dl_zoo.data.cifar10 import CIFAR10
from dl_zoo.data.cifar10_jpg import CIFAR10JPG, compressed
from dl_zoo.data.cifar100 import CIFAR100
from dl_zoo.data.decoding import decoded
from dl_zoo.errors import UserError

REAL = Path(os.environ.get("DL_ZOO_DATA", "data"))
CONFIGS = Path(__file__).parent.parent / "configs" / "data"
GREY: dict[str, Any] = {"mean": [0.0] * 3, "std": [1.0] * 3}
KINDS = [CIFAR10, CIFAR100]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_ZOO_CACHE", str(tmp_path / "cache"))


def pictures(part: str, items: int = 100) -> Tensor:
    return torch.randint(256, (items, 3, 32, 32), generator=torch.Generator().manual_seed(len(part)), dtype=torch.uint8)


def batches(of: type[CIFAR10]) -> dict[str, bytes]:
    """Files as the original's: pickles of the old protocol, 100 pictures each, labels 0 to 9 in turn."""
    files = {}
    for part, names in of.parts.items():
        for name in names:
            pixels = pictures(part).flatten(1).numpy()
            files[name] = pickle.dumps({"data": pixels, of.label_key: [i % 10 for i in range(100)]}, protocol=2)
    meta = next(name for name in of.digests if "meta" in name)
    return {**files, meta: pickle.dumps({}, protocol=2)}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    archive = b""
    gets = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.archive)))
        self.end_headers()
        if self.headers.get("Method") != "HEAD":  # how torchvision asks whether there is a redirection
            self.server.gets += 1
            self.wfile.write(self.server.archive)

    def log_message(self, *_: Any) -> None:
        pass


def served(of: type[CIFAR10], server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Makes small files the originals, and packs them."""
    files = batches(of)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{of.batches}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    server.archive = packed.getvalue()
    original = getattr(torchvision.datasets, of.source)
    monkeypatch.setattr(original, "url", f"http://127.0.0.1:{server.server_port}/x.tar.gz")
    monkeypatch.setattr(original, "tgz_md5", hashlib.md5(server.archive).hexdigest())
    monkeypatch.setattr(of, "digests", {name: hashlib.md5(file).hexdigest() for name, file in files.items()})
    monkeypatch.setattr(of, "held_out", 20)
    return files


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield one
        one.shutdown()


@pytest.mark.parametrize("of", KINDS)
def test_names_and_digests_are_torchvisions(of: type[CIFAR10]) -> None:
    original = getattr(torchvision.datasets, of.source)
    meta = [original.meta["filename"], original.meta["md5"]]
    assert of.digests == dict([*original.train_list, *original.test_list, meta])
    assert (of.parts["train"], of.parts["test"]) == tuple(
        [name for name, _ in some] for some in (original.train_list, original.test_list)
    )
    assert of.batches == original.base_folder
    assert len(of.classes) == len(set(of.classes)) == int(of.source.removeprefix("CIFAR"))
    assert of.classes == sorted(of.classes)


@pytest.mark.parametrize("of", KINDS)
def test_download(of: type[CIFAR10], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = served(of, server, monkeypatch)
    data = of({}, data_dir=str(tmp_path / "new"), **GREY)
    assert data.absent() == list(files)
    data.setup()
    assert {path.name: path.read_bytes() for path in (tmp_path / "new" / of.batches).iterdir()} == files
    assert {path.name for path in (tmp_path / "new").iterdir()} == {of.batches, f".{of.source}.lock"}
    items = 100 * len(of.parts["train"])
    assert data.sizes == {"train": items - 20, "val": 20, "test": 100}
    assert data.splits["val"][1].bincount().tolist() == [2] * 10
    images, y = data.splits["test"]
    assert torch.equal(images, pictures("test")), "planes of red, green and blue, row by row"
    assert y.tolist() == [i % 10 for i in range(100)]
    of({}, data_dir=str(tmp_path / "new"), **GREY).setup()
    assert server.gets == 1


def test_torchvision_reads_the_same(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(CIFAR10, server, monkeypatch)
    data = CIFAR10({}, data_dir=str(tmp_path), **GREY)
    data.prepare_data()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda _: True)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_load_meta", lambda _: None)
    theirs = torchvision.datasets.CIFAR10(tmp_path, train=True)
    images, y = data.original("train")
    assert torch.equal(images.permute(0, 2, 3, 1), torch.from_numpy(theirs.data))
    assert y.tolist() == theirs.targets


class Bomb:
    def __reduce__(self) -> Any:
        return (Path("ran").touch, ())


@pytest.mark.parametrize("damage", ["truncated", "code"])
def test_nothing_is_unpickled_that_is_not_the_original(
    damage: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(CIFAR10, server, monkeypatch)
    data = CIFAR10({}, data_dir=str(tmp_path), **GREY)
    data.prepare_data()
    path = tmp_path / "cifar-10-batches-py/data_batch_2"
    path.write_bytes(path.read_bytes()[:-1] if damage == "truncated" else pickle.dumps(Bomb()))
    with pytest.raises(UserError) as error:
        data.setup()
    assert str(error.value) == f"{path} is damaged (its MD5 is another): delete it to download it again"
    assert not Path("ran").exists()


def test_another_archive_is_refused_and_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(CIFAR10, server, monkeypatch)
    monkeypatch.setitem(CIFAR10.digests, "test_batch", "0" * 32)
    with pytest.raises(UserError) as error:
        CIFAR10({}, data_dir=str(tmp_path), **GREY).setup()
    text = str(error.value)
    assert "test_batch has another MD5 than the original" in text
    assert text.endswith("data=shapes runs without a download")
    assert {path.name for path in tmp_path.iterdir()} <= {".CIFAR10.lock", "cache"}


def test_other_sizes_are_made_by_the_batch(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(CIFAR10, server, monkeypatch)
    data = CIFAR10({}, data_dir=str(tmp_path), image_size=64, batch_size=8, **GREY)
    data.setup()
    assert (data.dims["image_size"], data.dims["features"]) == (64, 3 * 64 * 64)
    x, _ = next(iter(data.test_dataloader()))
    assert tuple(x.shape) == (8, 3, 64, 64)
    back = torch.nn.functional.avg_pool2d(x, 2) * 255 - pictures("test")[:8]
    assert back.abs().mean() < 40, "the same pictures"


# ---- JPEGs -----------------------------------------------------------------------------------------------------------


def packed(folder: Path, monkeypatch: pytest.MonkeyPatch, items: int = 4) -> Path:
    """An archive of `items` pictures a class and part, in descending order of their names."""
    path = folder / "cifar10-jpg.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        for part in ("test", "train"):
            for number, name in reversed(list(enumerate(CIFAR10.classes))):
                for i in reversed(range(items)):
                    content = compressed(torch.full((3, 32, 32), 20 * number + i, dtype=torch.uint8))
                    member = tarfile.TarInfo(f"{part}/{name}/{i:04}.jpg")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(CIFAR10JPG, "archive_digest", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10JPG, "held_out", 10)
    return path


def jpg(folder: Path, **settings: Any) -> CIFAR10JPG:
    data = CIFAR10JPG({}, data_dir=str(folder), **GREY, **settings)
    data.setup()
    return data


def test_the_archive_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(tmp_path, monkeypatch)
    data = jpg(tmp_path)
    assert (data.origin, data.absent()) == ("archive", [])
    assert data.sizes == {"train": 30, "val": 10, "test": 40}
    images, y = data.splits["test"]
    assert y.bincount().tolist() == [4] * 10
    assert len(y[:10].unique()) > 2, "shuffled"
    number = images[:, 0, 0, 0].long() - 20 * y  # of the picture within its class
    assert (number[y == 3].sort().values - torch.arange(4)).abs().max() <= 2
    assert number.min() >= -2
    assert number.max() <= 5
    monkeypatch.setattr(cache, "decoded", None)  # a second decoding would fail
    again = jpg(tmp_path)
    assert all(torch.equal(again.splits[part][0], data.splits[part][0]) for part in data.splits)
    assert len(list((tmp_path / "cache").glob("[!.]*"))) == 1


def test_two_halves_of_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(tmp_path, monkeypatch)
    whole = yaml.safe_load((CONFIGS / "cifar10_jpg.yaml").read_text())
    seen = []
    for name in ("cifar10_jpg_first5", "cifar10_jpg_last5"):
        content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        assert {key for key in whole if whole[key] != content[key]} == {"classes", "dims"}
        data = CIFAR10JPG(**{key: content[key] for key in ("dims", "classes", "mean", "std")}, data_dir=str(tmp_path))
        data.setup()
        assert data.dims == content["dims"]
        assert data.splits["train"][1].unique().tolist() == [0, 1, 2, 3, 4]
        seen += data.classes
    assert seen == CIFAR10.classes


def test_another_archive_is_not_taken_for_the_known_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path, monkeypatch)
    jpg(tmp_path)
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="has another SHA-256 than the archive that is known: remove it"):
        jpg(tmp_path)


def test_made_of_the_originals_where_there_is_no_archive(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(CIFAR10, server, monkeypatch)
    data = jpg(tmp_path)
    assert (data.origin, data.sizes) == ("made", {"train": 480, "val": 20, "test": 100})
    expected = [decoded(compressed(picture), 3, 32) for picture in pictures("test")]
    images, y = data.splits["test"]
    found = {picture.numpy().tobytes(): int(label) for picture, label in zip(images, y, strict=True)}
    assert found == {picture.numpy().tobytes(): i % 10 for i, picture in enumerate(expected)}
    packed(tmp_path, monkeypatch)
    assert jpg(tmp_path).sizes["test"] == 40, "the two are not mixed"
    assert len({path.name for path in (tmp_path / "cache").glob("[!.]*")}) == 2


def test_jpegs_are_of_quality_75_and_half_colour() -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(compressed(pictures("test")[0])))
    assert image.quantization[0][0] == 8, "16, the first of the standard's table, at quality 75"
    assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "cifar10-jpg.tar.xz").is_file(), reason="no archive in DL_ZOO_DATA")
def test_the_real_archive() -> None:
    content = yaml.safe_load((CONFIGS / "cifar10_jpg.yaml").read_text())
    data = CIFAR10JPG(content["dims"], data_dir=str(REAL), mean=content["mean"], std=content["std"])
    data.setup()
    assert data.sizes == CIFAR10.sizes
    assert data.splits["test"][1].bincount().tolist() == [1000] * 10
    pixels = data.splits["train"][0].double() / 255
    torch.testing.assert_close(pixels.mean((0, 2, 3)).tolist(), content["mean"], atol=6e-5, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3)).tolist(), content["std"], atol=6e-5, rtol=0)
