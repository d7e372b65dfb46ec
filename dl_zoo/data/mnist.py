"""MNIST: 70,000 scanned digits of 28x28 pixels, the set on which most of the early claims were made.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86(11), 1998,
section III-A. Licence: CC BY-SA 3.0, as commonly stated.

The official 10,000 test pictures are the test set, whole. Validation is 5,000 of the 60,000 training pictures, every
class in proportion, the same whatever the seed of a run. LeNet's 32x32 is the 28x28 picture framed in background (0).

On disk: torchvision's layout, `<data_dir>/MNIST/raw/`, downloaded when a file is absent. Each file is compared with its
SHA-256 whenever it is read (0.1 s for all four).
"""

import hashlib
import shutil
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F

from dl_zoo.data.memory import Split, stratified
from dl_zoo.data.pictures import PictureData
from dl_zoo.errors import UserError

# In seconds. An absent network is told within TRIES * STALL = 12, however it hangs.
TRIES = 2
CONNECT = 5.0  # for a connection, and for each read
STALL = 6.0  # without a byte until a try is given up: the look-up of a name knows no limit of its own


class MNIST(PictureData):
    """Sizes other than 28 are padded with background. The files' names, mirrors and archives' MD5 are torchvision's."""

    source: ClassVar[str] = "MNIST"  # torchvision's class, and the folder
    classes = [str(digit) for digit in range(10)]  # noqa: RUF012
    held_out: ClassVar[int] = 5_000  # for validation
    sizes = {"train": 60_000 - held_out, "val": held_out, "test": 10_000}  # noqa: RUF012
    digests: ClassVar[dict[str, str]] = {  # SHA-256 of the extracted files
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }

    @property
    def folder(self) -> Path:
        return Path(self.data_dir) / self.source / "raw"

    def absent(self) -> list[str]:
        return [file for file in self.digests if not (self.folder / file).is_file()]

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        if not self.absent():
            return
        try:
            self._download()
        except OSError as error:
            raise UserError(
                f"{self.source}: expected {', '.join(self.absent())} in {self.folder.absolute()}, and the download"
                f" failed ({error}); data=digits runs without a download"
            ) from error

    def _download(self) -> None:
        """By torchvision, into a scratch folder beside the place: only whole files of the right digest move there."""
        import torchvision.datasets

        original = getattr(torchvision.datasets, self.source)
        root = Path(self.data_dir).absolute()
        root.mkdir(parents=True, exist_ok=True)
        scratch = root / f".{self.source}.download"
        with FileLock(root / f".{self.source}.lock"):
            if not self.absent():  # another process had the lock before and got them
                return
            shutil.rmtree(scratch, ignore_errors=True)  # a killed download's: the lock says that nobody is in it
            failures = []
            try:
                for number, mirror in enumerate(islice(cycle(original.mirrors), TRIES)):
                    one_mirror = type(self.source, (original,), {"mirrors": [mirror]})
                    try:
                        watched(partial(one_mirror, scratch / str(number), download=True), scratch)
                        return self._take(scratch / str(number) / self.source / "raw")
                    except OSError as error:
                        reason = str(error).rsplit("got: ", 1)[-1].strip()  # torchvision puts the address before it
                        failures.append(f"{urlsplit(mirror).hostname}: {reason}")
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            raise OSError("; ".join(dict.fromkeys(failures)))

    def _take(self, downloaded: Path) -> None:
        for file, digest in self.digests.items():
            if sha256(downloaded / file) != digest:
                raise OSError(f"{file} has another SHA-256 than the original")
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in self.absent():
            (downloaded / file).replace(self.folder / file)

    def read(self) -> dict[str, Split]:
        self.prepare_data()  # for who calls setup alone; nothing to do under a Trainer, which has called it
        images, targets = self._pair("train")
        train, val = stratified(targets, self.held_out)
        return {
            "train": (images[train], targets[train]),
            "val": (images[val], targets[val]),
            "test": self._pair("t10k"),
        }

    def _pair(self, part: str) -> Split:
        from torchvision.datasets.mnist import read_image_file, read_label_file

        images, labels = (self._checked(f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        return read_image_file(images).unsqueeze(1), read_label_file(labels)  # (N, 1, 28, 28), (N,)

    def _checked(self, file: str) -> str:
        path = self.folder / file
        if sha256(path) != self.digests[file]:
            raise UserError(f"{path.absolute()} is damaged (its SHA-256 is another): delete it to download it again")
        return str(path)

    def fit_to(self, images: Tensor, size: int) -> Tensor:
        extra = size - images.shape[-1]
        if extra < 0:
            raise UserError(f"data.image_size={size}: the pictures are {images.shape[-1]} pixels wide and only padded")
        before, after = extra // 2, extra - extra // 2
        return F.pad(images, (before, after, before, after))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def watched(download: Callable[[], object], folder: Path) -> None:
    """Runs `download`, which fills `folder`; gives up when the folder stops growing. OSError, of one line, on failure.

    In a thread, since nothing else ends the look-up of a name that hangs. A thread given up is a daemon: it ends by its
    own time limits or with the process.
    """
    failures: list[Exception] = []

    def work() -> None:
        try:
            download()
        except Exception as error:  # urllib, http.client, gzip and torchvision each raise their own
            failures.append(error)

    def size() -> int:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT)
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        seen, since = -1, time.monotonic()
        while thread.is_alive():
            thread.join(timeout=0.1)
            if (grown := size()) != seen:
                seen, since = grown, time.monotonic()
            elif thread.is_alive() and time.monotonic() - since > STALL:
                raise TimeoutError(f"nothing came for {STALL:g} s")
    finally:
        socket.setdefaulttimeout(default)
    if failures:
        raise OSError(" ".join(str(failures[0]).split()) or type(failures[0]).__name__) from failures[0]
