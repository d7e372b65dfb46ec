"""Pictures decoded once: a file of uint8 pixels in a cache folder, mapped into memory at every later start.

The folder is DL_ZOO_CACHE where that is set, else `<data_dir>/.cache` where that can be written, else `dl_zoo` in
XDG_CACHE_HOME or ~/.cache. Anything in it may be deleted. An entry is a folder:

    pixels          N x channels x size x size bytes, in the order of the names
    index.json      {"shape": [N, channels, size, size], "names": [...], "unreadable": {name: why}}
    unreadable.txt  the last of these again, a line each, for people
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from dl_zoo.data.decoding import Unreadable, check, decoded
from dl_zoo.data.sources import THREADS
from dl_zoo.errors import UserError

log = logging.getLogger("dl_zoo")
CHUNK = 512  # files decoded at a time: what is held in memory
Item = tuple[str, Path | bytes]  # a name, unique among the items, and the file or its bytes


@dataclass(frozen=True)
class Entry:
    """Names in ascending order, and their pictures (N, C, S, S) uint8, mapped copy-on-write."""

    names: list[str]
    images: Tensor
    unreadable: dict[str, str]


def folder(data_dir: str) -> Path:
    if "DL_ZOO_CACHE" in os.environ:
        return Path(os.environ["DL_ZOO_CACHE"]).expanduser().absolute()
    root = Path(data_dir).absolute()
    existing = next(each for each in (root, *root.parents) if each.exists())
    if os.access(existing, os.W_OK) and existing.is_dir():
        return root / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dl_zoo"


def cached(place: Path, items: Iterable[Item], channels: int, size: int, total: int | None) -> Entry:
    """The entry at `place`, made of `items` where it is not there: by one process, and whole or not at all.

    Unreadable files are left out and told in one line. `total`, if known, is for the time left in the progress bar.
    UserError where the disk is full or cannot be written.
    """
    if not (place / "index.json").exists():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place.with_name(f".{place.name}.lock")):
                if not (place / "index.json").exists():
                    _make(place, items, channels, size, total)
        except OSError as error:
            hint = "DL_ZOO_CACHE names another folder for decoded pictures"
            raise UserError(f"{place} cannot be written ({error.strerror or error}): {hint}") from error
    return read(place)


def readable(place: Path, root: Path, names: Sequence[str]) -> list[str]:
    """Those of the files below `root` that begin like a picture, for data that are decoded anew in each epoch.

    Only the heads are read, once: what is wrong with the others is kept beside where the entry would be.
    """
    listed = place.with_name(f"{place.name}-unreadable.json")
    if not listed.exists():

        def why(name: str) -> str | None:
            try:
                check(root / name)
            except Unreadable as error:
                return str(error)
            return None

        with ThreadPoolExecutor(THREADS) as pool:
            reasons = tqdm(pool.map(why, names), "looking at the files", len(names), delay=1, leave=False)
            found = {name: reason for name, reason in zip(names, reasons, strict=True) if reason is not None}
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(json.dumps(found), encoding="utf-8")
    unreadable = json.loads(listed.read_text(encoding="utf-8"))
    _tell(unreadable, listed)
    return [name for name in names if name not in unreadable]


def _tell(unreadable: Mapping[str, str], listed: Path) -> None:
    """In one line, once a process."""
    if unreadable and listed not in _TOLD:
        _TOLD.add(listed)
        first = "; ".join(f"{name} {why}" for name, why in islice(unreadable.items(), 3))
        log.warning("%d unreadable picture(s) left out: %s; all are listed in %s", len(unreadable), first, listed)


_TOLD: set[Path] = set()


def _make(place: Path, items: Iterable[Item], channels: int, size: int, total: int | None) -> None:
    scratch = place.with_name(f".{place.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)  # a killed process's
    scratch.mkdir()
    names, unreadable = [], {}
    try:
        with (scratch / "unsorted").open("wb") as file:
            what = {"desc": f"decoding {place.name[:24]}", "total": total, "unit": " pictures"}
            for name, picture in tqdm(_decoded(items, channels, size), **what, delay=1, leave=False, disable=None):
                if isinstance(picture, Tensor):
                    names.append(name)
                    file.write(picture.numpy().data)
                else:
                    unreadable[name] = picture
        order = sorted(range(len(names)), key=names.__getitem__)
        shape = (len(names), channels, size, size)
        _sort(scratch, order, shape)
        index = {"shape": shape, "names": [names[i] for i in order], "unreadable": unreadable}
        if unreadable:
            lines = "".join(f"{name} {why}\n" for name, why in sorted(unreadable.items()))
            (scratch / "unreadable.txt").write_text(lines, encoding="utf-8")
        (scratch / "index.json").write_text(json.dumps(index), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        scratch.replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _decoded(items: Iterable[Item], channels: int, size: int) -> Iterator[tuple[str, Tensor | str]]:
    """Each name with its picture, or with the reason that there is none."""

    def one(item: Item) -> tuple[str, Tensor | str]:
        try:
            return item[0], decoded(item[1], channels, size)
        except Unreadable as why:
            return item[0], str(why)

    rest = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while chunk := list(islice(rest, CHUNK)):
            yield from pool.map(one, chunk)


def _sort(scratch: Path, order: list[int], shape: tuple[int, ...]) -> None:
    """Archives keep an order of their own; a directory's listing too. A split must not depend on either."""
    unsorted = scratch / "unsorted"
    if order != list(range(len(order))):
        pixels = np.memmap(unsorted, np.uint8, "r", shape=shape)
        with (scratch / "pixels").open("wb") as file:
            for start in range(0, len(order), CHUNK):
                file.write(pixels[order[start : start + CHUNK]].data)
        unsorted.unlink()
    else:
        unsorted.rename(scratch / "pixels")


def read(place: Path) -> Entry:
    """An entry that is there."""
    index = json.loads((place / "index.json").read_text(encoding="utf-8"))
    shape, names, unreadable = tuple(index["shape"]), index["names"], index["unreadable"]
    _tell(unreadable, place / "unreadable.txt")
    if (place / "pixels").stat().st_size != prod(shape):
        raise UserError(f"{place} is damaged: delete it, and its pictures are decoded again")
    if not names:
        return Entry(names, torch.empty(shape, dtype=torch.uint8), unreadable)
    pixels = np.memmap(place / "pixels", np.uint8, "c", shape=shape)
    return Entry(names, torch.from_numpy(pixels), unreadable)
