"""Tars of pictures, compressed or not, read as a stream: nothing of them is unpacked to the disk."""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path

from dl_zoo.data.cache import Item
from dl_zoo.errors import UserError


def members(path: Path, names: set[str] | None = None) -> Iterator[Item]:
    """Names and bytes of the files of a tar, or of these, in one pass; nothing is unpacked to the disk."""
    seen: set[str] = set()  # a tar may hold a name twice
    with reading(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if not member.isfile() or name in seen or (names is not None and name not in names):
                continue
            file = tar.extractfile(member)
            assert file is not None  # of a file it never is
            seen.add(name)
            yield name, file.read()


@contextmanager
def reading(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar as a stream. UserError where it is none, or damaged."""
    try:
        with tarfile.open(path, "r|*") as tar:
            yield tar
    except (tarfile.TarError, LZMAError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read as a tar ({error}): name a folder or a whole tar") from error
