"""CIFAR-10 as JPEGs of quality 75: what experiments at small cost train on where the originals are not at hand.

The pictures are those of CIFAR-10 (see its file: classes, sizes, splits), each once compressed (quality 75, colours at
half the resolution: 4:2:0). That is lossy, and at 32x32 pixels it shows: a public ResNet-32 has 17.4 % test error on
these against 7.4 % on the originals. Train and test on them, compare arms with one another, and never put the accuracy
beside a paper's without saying so.

They come of one of two origins, which are never mixed, since another encoder makes other pixels:

- `archive`: `<data_dir>/cifar10-jpg.tar.xz`, with train/<class>/*.jpg and test/<class>/*.jpg, of a known SHA-256;
- `made`: where there is no archive, of CIFAR-10 itself (downloaded if need be), by Pillow.

Decoded once (see `cache`). `origin` says which they are, and `fingerprint` what exactly.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dl_zoo.data import cache
from dl_zoo.data.cifar10 import CIFAR10, validated
from dl_zoo.data.decoding import DECODER
from dl_zoo.data.download import sha256
from dl_zoo.data.memory import Split
from dl_zoo.data.tars import members
from dl_zoo.errors import UserError

ARCHIVE = "cifar10-jpg.tar.xz"
ITEMS = 60_000
QUALITY, HALF_COLOUR = 75, "4:2:0"


class CIFAR10JPG(CIFAR10):
    """Settings: see PictureData."""

    archive_digest: ClassVar[str] = "6a5b580f6e6c7f6a9d3dd7c047bbb633ab1a7a4b20a58331f450a68f2113dd3c"  # SHA-256

    @property
    def archive(self) -> Path:
        return Path(self.data_dir) / ARCHIVE

    @property
    def origin(self) -> str:
        return "archive" if self.archive.is_file() else "made"

    @property
    def fingerprint(self) -> str:
        """Of the compressed pictures: the archive's digest, or the encoder, of which libjpeg's version is a part."""
        if self.origin == "archive":
            return self.archive_digest[:16]
        from PIL import features

        return f"pillow-{Image.__version__}-jpeg-{features.version('jpg')}"

    def absent(self) -> list[str]:
        return [] if self.origin == "archive" else super().absent()

    def prepare_data(self) -> None:
        """UserError where there is neither the archive nor CIFAR-10, nor a way to download it."""
        self._entry()

    def _entry(self) -> cache.Entry:
        place = cache.folder(self.data_dir) / f"cifar10_jpg-{self.origin}-{self.fingerprint}-v{DECODER}"
        if self.origin == "made":
            if not (place / "index.json").exists():
                super().prepare_data()
            return cache.cached(place, self._made(), 3, 32, ITEMS)
        if sha256(self.archive) != self.archive_digest:
            raise UserError(
                f"{self.archive.absolute()} has another SHA-256 than the archive that is known: remove it to have the"
                " pictures made of CIFAR-10"
            )
        return cache.cached(place, members(self.archive), 3, 32, ITEMS)

    def _made(self) -> Iterator[cache.Item]:
        for part in self.parts:
            images, targets = self.original(part)
            for number, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
                yield f"{part}/{CIFAR10.classes[target]}/{number:05}.jpg", compressed(image)

    def read(self) -> dict[str, Split]:
        entry = self._entry()
        if entry.unreadable:
            raise UserError(
                f"{self.origin}: {len(entry.unreadable)} pictures cannot be read, such as {min(entry.unreadable)}"
            )
        parts = {part: labelled(entry, part, CIFAR10.classes) for part in ("train", "test")}
        return validated(parts["train"], parts["test"], self.held_out)


def labelled(entry: cache.Entry, part: str, classes: list[str]) -> tuple[Tensor, Tensor]:
    """Pictures and class numbers of `part`, from names such as part/class/0001.jpg.

    Shuffled once and for all, as CIFAR-10 itself is: by name the first batches would be all of one class.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    split = [name.split("/") for name in entry.names]
    own = [(place, numbers[folder]) for place, (its, folder, _) in enumerate(split) if its == part]
    order = np.random.RandomState(0).permutation(len(own))
    places, targets = torch.tensor(own)[order].T.contiguous()
    return entry.images.index_select(0, places), targets


def compressed(image: Tensor) -> bytes:
    """(3, H, W) uint8 -> a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=QUALITY, subsampling=HALF_COLOUR)
    return file.getvalue()
