"""MNIST and Fashion-MNIST on disk: the real files where they are at hand, and small ones from a local server."""

import gzip
import hashlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.datasets
from torch import Tensor

from dl_zoo.data import download
from dl_zoo.data.fashion_mnist import FashionMNIST
from dl_zoo.data.mnist import MNIST
from dl_zoo.data.sequential_mnist import SequentialMNIST
from dl_zoo.errors import UserError

REAL = Path(os.environ.get("DL_ZOO_DATA", "data"))
has_mnist = pytest.mark.skipif(not (REAL / "MNIST/raw").is_dir(), reason="no MNIST in DL_ZOO_DATA")


# ---- the real files --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> MNIST:
    data = MNIST({}, data_dir=str(REAL), batch_size=128, mean=[0.1307], std=[0.3081])
    data.setup()
    return data


@has_mnist
def test_real_splits(real: MNIST) -> None:
    assert real.sizes == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert real.dims == {"channels": 1, "image_size": 28, "features": 784, "num_classes": 10}
    train, val, test = (targets.bincount() for _, targets in real.splits.values())
    assert ((val - (train + val) / 12).abs() < 1).all(), "every class in proportion"
    assert test.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], "the official test set"
    images, targets = real.splits["train"]
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (55_000, 1, 28, 28))
    assert targets[:10].tolist() == FIRST_TARGETS["train"]
    assert real.splits["val"][1][:10].tolist() == FIRST_TARGETS["val"]


@has_mnist
def test_real_normalisation_is_of_the_unpadded_pictures(real: MNIST) -> None:
    pixels = real.splits["train"][0].float() / 255
    assert abs((pixels.mean() - 0.1307) / 0.3081) < 1e-3
    assert abs(pixels.std() / 0.3081 - 1) < 1e-3


@has_mnist
def test_real_pictures_are_framed_for_lenet(real: MNIST) -> None:
    images = real.splits["val"][0]
    framed = real.fit_to(images, 32)
    assert tuple(framed.shape) == (5_000, 1, 32, 32)
    assert torch.equal(framed[:, :, 2:30, 2:30], images)
    assert framed.sum() == images.sum(), "the frame is background"
    with pytest.raises(UserError, match=r"data\.image_size=20: the pictures are 28 pixels wide and only padded"):
        real.fit_to(images, 20)


# ---- small files from a server ---------------------------------------------------------------------------------------


def idx(kind: int, *sizes: int) -> bytes:
    """A file of the IDX format: magic number 0, 0, 8 (bytes), dimensions; the sizes; the values."""
    header = bytes([0, 0, 8, kind]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    values = torch.arange(torch.Size(sizes).numel()) * 7 % (256 if kind == 3 else 10)
    return header + bytes(values.tolist())


FILES = {
    "train-images-idx3-ubyte": idx(3, 200, 28, 28),
    "train-labels-idx1-ubyte": idx(1, 200),
    "t10k-images-idx3-ubyte": idx(3, 40, 28, 28),
    "t10k-labels-idx1-ubyte": idx(1, 40),
}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.archives = {f"{name}.gz": gzip.compress(content) for name, content in FILES.items()}
        self.cut: str | None = None  # an archive of which only half is sent
        self.gets: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.strip("/")
        archive = self.server.archives[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(archive)))
        self.end_headers()
        if self.headers.get("Method") == "HEAD":  # how torchvision asks whether there is a redirection
            return
        self.server.gets[name] += 1
        self.wfile.write(archive[: len(archive) // 2] if name == self.server.cut else archive)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the small files, and makes them the originals."""
    with Server() as one:
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        resources = [(name, hashlib.md5(archive).hexdigest()) for name, archive in one.archives.items()]
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [one.url])
        monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
        monkeypatch.setattr(MNIST, "digests", {name: hashlib.sha256(f).hexdigest() for name, f in FILES.items()})
        monkeypatch.setattr(MNIST, "held_out", 20)
        yield one
        one.shutdown()


def files_in(folder: Path) -> set[str]:
    """All that lies there but the empty file that keeps two processes from downloading at once."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in files} - {".MNIST.lock"}


def test_download(server: Server, tmp_path: Path) -> None:
    data = MNIST({}, data_dir=str(tmp_path / "new"))
    data.prepare_data()
    assert {path: (tmp_path / "new" / path).read_bytes() for path in files_in(tmp_path / "new")} == {
        f"MNIST/raw/{name}": content for name, content in FILES.items()
    }
    data.prepare_data()
    data.setup()
    assert set(server.gets.values()) == {1}, "what is there is not downloaded again"
    assert data.sizes == {"train": 180, "val": 20, "test": 40}
    test, targets = data.splits["test"]
    assert torch.equal(
        test.flatten(), torch.frombuffer(bytearray(FILES["t10k-images-idx3-ubyte"][16:]), dtype=torch.uint8)
    )
    assert bytes(targets.tolist()) == FILES["t10k-labels-idx1-ubyte"][8:]
    assert socket.getdefaulttimeout() is None


def test_setup_alone_downloads_and_mends_a_deleted_file(server: Server, tmp_path: Path) -> None:
    MNIST({}, data_dir=str(tmp_path)).setup()
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    MNIST({}, data_dir=str(tmp_path)).setup()
    assert len(files_in(tmp_path)) == 4


def test_several_processes_download_once(server: Server, tmp_path: Path) -> None:
    """Threads stand for them: a file lock knows no difference."""
    threads = [threading.Thread(target=MNIST({}, data_dir=str(tmp_path)).prepare_data) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(server.gets.values()) == {1}
    assert len(files_in(tmp_path)) == 4


def test_the_second_mirror_helps(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{free_port()}/", server.url])
    MNIST({}, data_dir=str(tmp_path)).prepare_data()
    assert len(files_in(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["cut", "other archive", "other content"])
def test_a_failed_download_leaves_nothing(
    damage: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "cut":
        server.cut = "t10k-images-idx3-ubyte.gz"
    elif damage == "other archive":
        server.archives["t10k-images-idx3-ubyte.gz"] = gzip.compress(b"something else")
    else:
        monkeypatch.setitem(MNIST.digests, "t10k-images-idx3-ubyte", "0" * 64)
    with pytest.raises(UserError) as error:
        MNIST({}, data_dir=str(tmp_path)).setup()
    assert_one_line_about_what_is_missing(error.value, tmp_path)
    assert files_in(tmp_path) == set()
    assert server.gets["train-images-idx3-ubyte.gz"] == 2, "two tries"


def test_a_killed_download_is_swept_up(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".MNIST.download/0").mkdir(parents=True)
    (tmp_path / ".MNIST.download/0/half").write_bytes(b"half a file")
    MNIST({}, data_dir=str(tmp_path)).prepare_data()
    assert {path.split("/")[0] for path in files_in(tmp_path)} == {"MNIST"}


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_file_is_named_with_its_mend(damage: str, server: Server, tmp_path: Path) -> None:
    MNIST({}, data_dir=str(tmp_path)).prepare_data()
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:-1], "changed": content[:-1] + b"\xff", "empty": b""}[damage])
    with pytest.raises(UserError) as error:
        MNIST({}, data_dir=str(tmp_path)).setup()
    assert str(error.value).startswith(f"{path} is damaged")
    assert "delete it to download it again" in str(error.value)
    assert "\n" not in str(error.value)


# ---- no network ------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def assert_one_line_about_what_is_missing(error: UserError, folder: Path, name: str = "MNIST") -> None:
    text = str(error)
    assert "\n" not in text
    assert str(folder / name / "raw") in text
    assert "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte" in text
    assert text.endswith("data=digits runs without a download")


@pytest.mark.parametrize("of", [MNIST, FashionMNIST])
def test_absent_and_refused(of: type[MNIST], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(torchvision.datasets, of.source)
    monkeypatch.setattr(original, "mirrors", [f"http://127.0.0.1:{free_port()}/"])
    start = time.monotonic()
    with pytest.raises(UserError, match="Connection refused") as error:
        of({}, data_dir=str(tmp_path / "deep/folder")).setup()
    assert time.monotonic() - start < 3
    assert_one_line_about_what_is_missing(error.value, tmp_path / "deep/folder", of.source)


@pytest.mark.parametrize("where", ["answer", "name"])
def test_absent_and_every_address_hangs(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a tenth of the real patience, which is 12 s in all."""
    assert download.TRIES * download.STALL <= 12
    assert download.CONNECT == 5
    monkeypatch.setattr(download, "CONNECT", 0.5 if where == "answer" else 60)
    monkeypatch.setattr(download, "STALL", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"] * 5)
        if where == "name":
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
        start = time.monotonic()
        with pytest.raises(UserError, match=r"timed out|nothing came for 0\.6 s") as error:
            MNIST({}, data_dir=str(tmp_path)).setup()
        assert time.monotonic() - start < 2.5
    assert_one_line_about_what_is_missing(error.value, tmp_path)
    assert files_in(tmp_path) == set()
    assert socket.getdefaulttimeout() is None


def test_a_place_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="File exists") as error:
        MNIST({}, data_dir=str(tmp_path / "file")).setup()
    assert_one_line_about_what_is_missing(error.value, tmp_path / "file")


FIRST_TARGETS = {"train": [5, 4, 1, 9, 2, 1, 3, 1, 4, 3], "val": [0, 9, 2, 8, 5, 1, 9, 0, 6, 0]}


# ---- as sequences ------------------------------------------------------------------------------------------------


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """40 pictures in place of MNIST's, all splits alike."""
    images = torch.randint(256, (40, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = images, torch.arange(40) % 10
    monkeypatch.setattr(MNIST, "read", lambda self: dict.fromkeys(("train", "val", "test"), split))
    return images


@pytest.mark.parametrize(("pixels", "steps"), [(1, 784), (28, 28), (98, 8)])
def test_pictures_are_read_row_by_row(pixels: int, steps: int, few_pictures: Tensor) -> None:
    data = SequentialMNIST({}, pixels=pixels, batch_size=16)
    data.setup()
    assert data.dims == {"input_size": pixels, "context": steps, "num_classes": 10}
    inputs, targets = next(iter(data.loader("val")))
    assert inputs.shape == (16, steps, pixels)
    expected = (few_pictures[:16].flatten(1) / 255 - 0.1307) / 0.3081
    assert torch.allclose(inputs.flatten(1), expected, atol=1e-5)
    assert targets.tolist() == (torch.arange(16) % 10).tolist()
    pretended = SequentialMNIST({}, pixels=pixels)
    pretended.pretend(3)
    assert (pretended.dims, pretended.splits["val"][0].shape) == (data.dims, (3, steps, pixels))


def test_one_order_for_all_pictures_and_runs(few_pictures: Tensor) -> None:
    one, other = (SequentialMNIST({}, permuted=True, seed=seed) for seed in (1, 2))
    for data in (one, other):
        data.setup()
    inputs = one.splits["train"][0].flatten(1)
    assert torch.equal(inputs, other.splits["train"][0].flatten(1))
    assert torch.equal(inputs.sort(1).values, few_pictures.flatten(1).sort(1).values)
    assert not torch.equal(inputs, few_pictures.flatten(1))
    order = torch.from_numpy(one.order)
    assert torch.equal(inputs, few_pictures.flatten(1)[:, order])


def test_some_of_the_training_pictures(few_pictures: Tensor) -> None:
    data = SequentialMNIST({}, train_items=20)
    data.setup()
    assert data.sizes == {"train": 20, "val": 40, "test": 40}
    assert data.splits["train"][1].bincount().tolist() == [2] * 10
    with pytest.raises(UserError, match=r"data\.pixels=5: must divide 784"):
        SequentialMNIST({}, pixels=5)
