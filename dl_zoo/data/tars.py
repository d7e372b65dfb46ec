"""Tars of pictures, compressed or not, read from begin to end: nothing of them is unpacked to the disk."""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path

from dl_zoo.data.cache import Item
from dl_zoo.errors import UserError

LARGEST = 256_000_000  # bytes of a picture file


def members(path: Path, names: set[str] | None = None) -> Iterator[Item]:
    """Names and bytes of the files of a tar, or of these, in one pass; nothing is unpacked to the disk."""
    seen: set[str] = set()  # a tar may hold a name twice
    with reading(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if not member.isfile() or name in seen or (names is not None and name not in names):
                continue
            if member.size > LARGEST:
                raise UserError(f"{path}: {name} takes {member.size / 1e6:.0f} MB: no picture; leave it out")
            file = tar.extractfile(member)
            assert file is not None  # of a file it never is
            seen.add(name)
            yield name, file.read()


@contextmanager
def reading(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar. UserError where it is none, or damaged.

    Not as a stream ("r|*"): that copies its buffer at each read, so that a few kB could keep it busy for hours.
    """
    try:
        with tarfile.open(path, "r:*") as tar:
            yield tar
    except (tarfile.TarError, LZMAError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read as a tar ({error}): name a folder or a whole tar") from error
