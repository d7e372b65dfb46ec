"""Pictures of your own: a folder, or a tar, in which each class is a folder.

    DIR/<class>/...                     or      DIR/train/<class>/...  DIR/val/<class>/...  DIR/test/<class>/...

Folders within a class's folder belong to it; names that begin with a dot do not count. Classes are numbered in the
order of their names; DIR/valid and DIR/validation are DIR/val too. What is missing is split off, every class in
proportion, the same whatever the seed of a run:

- without DIR/train: `test_share` and `val_share` of all pictures;
- DIR/train with neither DIR/val nor DIR/test: the same;
- DIR/train and one of DIR/val and DIR/test: that one is the test set, and `val_share` of the training pictures are for
  validation. What chooses the best checkpoint must not be what reports its accuracy.

Pictures are decoded once, to a mapped file in a cache folder (see `cache`), or, where that would take more than
`cache_gb` or the disk has, whenever they are asked for.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from dl_zoo.data import cache
from dl_zoo.data.decoding import DECODER
from dl_zoo.data.memory import Split, stratified
from dl_zoo.data.pictures import PictureData
from dl_zoo.data.sources import Chosen, Files, Inputs, take
from dl_zoo.data.tars import members, reading
from dl_zoo.errors import UserError

USUAL = 224  # pixels, where neither the model nor the user says another width
MEMORY = 2**30  # bytes: splits up to this are copied out of the mapped file
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Listing:
    """Names below the root in ascending order, with "/"; the part ("" for none) and the class of each; all classes."""

    names: list[str]
    parts: list[str]
    folders: list[str]
    classes: list[str]


class ImageFolder(PictureData):
    """Settings: see PictureData. `image_size` None is 224. `channels`: 3, or 1 for grey; pictures are converted.

    Unreadable files are left out, and told in one warning. UserError, before anything is decoded, for an empty class
    folder, fewer than two classes, or no pictures at all.
    """

    classes: list[str] = []  # noqa: RUF012  # those of the folder, once it is listed
    sizes: dict[str, int] = {}  # noqa: RUF012

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        path: str | None = None,
        channels: int = 3,
        val_share: float = 0.15,
        test_share: float = 0.15,
        cache_gb: float = 20,
        image_size: int | None = None,
        **settings: Any,
    ):
        super().__init__(dims, image_size=USUAL if image_size is None else image_size, **settings)
        if path is None:
            raise UserError("data.path: must name a folder, or a tar, of pictures with a folder for each class")
        if channels not in (1, 3):
            raise UserError(f"data.channels={channels}: must be 1 (grey) or 3 (colour)")
        for key, share in {"val_share": val_share, "test_share": test_share}.items():
            if not 0 < share < 1:
                raise UserError(f"data.{key}={share}: must be above 0 and below 1")
        if val_share + test_share >= 1:
            raise UserError(f"data.val_share={val_share} and data.test_share={test_share} leave nothing to train on")
        self.path, self.channels, self.cache_gb = Path(path).expanduser().absolute(), channels, cache_gb
        self.val_share, self.test_share = val_share, test_share
        self._listing: Listing | None = None

    # ---- files -----------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Decodes, where that has not been done."""
        self._pictures(self._listed())

    def pretend(self, items: int) -> None:
        self._listed()
        super().pretend(items)

    def _listed(self) -> Listing:
        if self._listing is None:  # a walk over a million files takes minutes
            listing = self.arranged(*self._names())
            self.classes = listing.classes
            if self.wanted is not None:
                self._narrow(self.wanted)
            self._listing = listing
        return self._listing

    def _names(self) -> tuple[list[str], list[str]]:
        if self.path.is_dir():
            return in_folder(self.path)
        if not self.path.is_file():
            raise UserError(f"data.path={self.path}: there is no such folder or tar; data.path= says where it is now")
        entry = self._place([])
        if (entry / "index.json").exists():  # the archive need not be read again
            known = cache.read(entry)
            return [*known.names, *known.unreadable], []
        return in_tar(self.path)

    def arranged(self, names: Sequence[str], folders: Sequence[str]) -> Listing:
        return arranged(self.path, names, folders)

    def _place(self, names: Sequence[str]) -> Path:
        """Of the cache's entry: another one where a file is another."""
        mark = hashlib.sha256(f"{self.path} {marks(self.path, names)}".encode()).hexdigest()[:16]
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self.path.name)[:32]
        return cache.folder(self.data_dir) / f"{name}-{mark}-{self.channels}x{self._kept}-v{DECODER}"

    @property
    def _kept(self) -> int:
        size = self.resize or self.image_size
        assert size is not None
        return size

    def _pictures(self, listing: Listing) -> tuple[list[str], Inputs]:
        """Names of the readable files, and their pictures in the same order."""
        is_tar, size = self.path.is_file(), self._kept
        place = self._place([] if is_tar else listing.names)
        if not (place / "index.json").exists():
            needed = len(listing.names) * self.channels * size**2
            if needed > min(self.cache_gb * 1e9, 0.9 * free_bytes(place)):
                if is_tar:
                    raise UserError(
                        f"{self.path}: decoded, its pictures take {needed / 1e9:.1f} GB: raise data.cache_gb, make room"
                        f" in {place.parent}, or unpack it"
                    )
                names = cache.readable(place, self.path, listing.names)
                return names, Files([self.path / name for name in names], self.channels, size)
        items = members(self.path, set(listing.names)) if is_tar else ((n, self.path / n) for n in listing.names)
        entry = cache.cached(place, items, self.channels, size, len(listing.names))
        return entry.names, Chosen(entry.images, torch.arange(len(entry.names)))

    # ---- splits ----------------------------------------------------------------------------------------------------

    def read(self) -> dict[str, Split]:
        listing = self._listed()
        names, images = self._pictures(listing)
        where = dict(zip(listing.names, zip(listing.parts, listing.folders, strict=True), strict=True))
        numbers = {folder: number for number, folder in enumerate(listing.classes)}
        targets = torch.tensor([numbers[where[name][1]] for name in names], dtype=torch.int64)
        places = {
            part: torch.tensor([i for i, name in enumerate(names) if where[name][0] == part], dtype=torch.int64)
            for part in ("", "train", "val", "test")
        }
        splits = self._split(places, targets)
        poor = torch.bincount(targets[splits["train"]], minlength=len(listing.classes)) == 0
        if poor.any():
            name = listing.classes[int(poor.nonzero()[0])]
            raise UserError(f"{self.path}: class {name} has no readable picture left to train on: add some")
        splits |= {part: shuffled(splits[part]) for part in ("val", "test")}
        return {part: (in_memory(take(images, index)), targets[index]) for part, index in splits.items()}

    def _split(self, places: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Indices of each split, from those of each part that there is."""
        train = places["train"] if len(places["train"]) else places[""]
        val, test = places["val"], places["test"]
        count = len(train)
        if not len(val) and not len(test):
            train, test = self._held_out(train, targets, round(self.test_share * count))
        elif not len(test):
            val, test = test, val
        if not len(val):
            train, val = self._held_out(train, targets, self.val_count(count))
        return {"train": train, "val": val, "test": test}

    def val_count(self, count: int) -> int:
        """How many of `count` training pictures are for validation."""
        return round(self.val_share * count)

    def _held_out(self, index: Tensor, targets: Tensor, count: int) -> tuple[Tensor, Tensor]:
        if not 0 < count < len(index):
            raise UserError(f"{self.path}: {len(index)} pictures are too few to hold {max(count, 1)} of them out")
        kept, held = stratified(targets[index], count)
        return index[kept], index[held]

    def fit_to(self, images: Inputs, size: int) -> Inputs:
        return images  # decoded at this size

    def pretended(self, items: int, generator: Generator) -> Tensor:
        self.dims["channels"] = self.channels
        return super().pretended(items, generator)


def shuffled(index: Tensor) -> Tensor:
    """Once and for all: by name, the first batches of an evaluation would be all of one class."""
    return index[torch.from_numpy(np.random.RandomState(0).permutation(len(index)))]


def in_memory(images: Inputs) -> Inputs:
    """Pictures of the mapped file as a tensor, where they are few."""
    if isinstance(images, Chosen) and images.shape.numel() <= MEMORY:
        return images.index_select(0, torch.arange(len(images)))
    return images


# ---- what there is, and what it is ----------------------------------------------------------------------------------


def in_folder(root: Path) -> tuple[list[str], list[str]]:
    """Files and folders below `root`, relative to it; links are followed, but not in a circle."""
    names, folders = [], []
    seen: set[tuple[int, int]] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(each for each in below if not each.startswith("."))
        start = Path(folder).relative_to(root).as_posix() + "/" if folder != str(root) else ""
        folders += [start + each for each in below]
        names += [start + each for each in files if not each.startswith(".")]
    return names, folders


def in_tar(path: Path) -> tuple[list[str], list[str]]:
    """Files and folders in a tar, compressed or not."""
    names, folders = [], []
    with reading(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if any(part.startswith(".") for part in name.split("/")):
                continue
            if member.isfile():
                names.append(name)
            elif member.isdir():
                folders.append(name)
    return names, folders


def arranged(root: Path, names: Sequence[str], folders: Sequence[str]) -> Listing:
    """Which part and class each file belongs to. UserError where they are not arranged in classes."""
    deep = [name for name in names if "/" in name]
    top = {name.split("/")[0] for name in [*deep, *folders]}
    if len(top) == 1 and not top & set(PARTS) and any(folder.count("/") for folder in [*folders, *map(parent, deep)]):
        return _below(root, names, folders, next(iter(top)))
    parted = "train" in top
    if not parted and top & set(PARTS):
        raise UserError(f"{root} has {', '.join(sorted(top & set(PARTS)))} but no train folder")
    placed = [(name, *place) for name in sorted(deep) if (place := _place(name, parted)) is not None]
    filled = {(part, folder) for _, part, folder in placed}
    for folder in sorted(folders):
        place = _place(f"{folder}/x", parted)
        if place is not None and place not in filled:
            raise UserError(f"{root}: the class folder {folder} is empty: fill or remove it")
    classes = sorted({folder for part, folder in filled if part in ("", "train")})
    if not placed:
        raise UserError(f"{root} holds no pictures in class folders: expected DIR/<class>/ or DIR/train/<class>/")
    if strange := sorted({folder for _, folder in filled} - set(classes)):
        raise UserError(f"{root}: class {strange[0]} is not among the training pictures")
    if len(classes) < 2:
        raise UserError(f"{root} has one class only, {classes[0]}: a classifier needs two")
    sorted_names, parts, of = (list(column) for column in zip(*placed, strict=True))
    return Listing(sorted_names, parts, of, classes)


def _below(root: Path, names: Sequence[str], folders: Sequence[str], top: str) -> Listing:
    """As people pack them: DIR itself is in the tar, or there is one folder around all."""
    start = f"{top}/"
    inner = arranged(
        root,
        [name.removeprefix(start) for name in names if name.startswith(start)],
        [folder.removeprefix(start) for folder in folders if folder.startswith(start)],
    )
    return Listing([start + name for name in inner.names], inner.parts, inner.folders, inner.classes)


def parent(name: str) -> str:
    return name.rpartition("/")[0]


def _place(name: str, parted: bool) -> tuple[str, str] | None:
    """Part and class of a file; None of one that lies outside."""
    first, *rest = name.split("/")
    if not parted:
        return ("", first) if rest else None
    return (PARTS[first], rest[0]) if first in PARTS and len(rest) > 1 else None


def marks(path: Path, names: Sequence[str]) -> str:
    """Sizes and times of the files, or of the tar."""

    def mark(file: Path) -> str:
        try:
            status = file.stat()
        except OSError as error:  # a link that leads nowhere
            return type(error).__name__
        return f"{status.st_size} {status.st_mtime_ns}"

    return " ".join(f"{name} {mark(path / name)}" for name in names) or mark(path)


def free_bytes(place: Path) -> int:
    existing = next(each for each in place.parents if each.exists())
    return shutil.disk_usage(existing).free
