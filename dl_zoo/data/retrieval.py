"""Plain files by HTTP, for datasets whose addresses no library keeps."""

import gzip
import shutil
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from dl_zoo.data.download import CONNECT


def retrieved(folder: str, names: Iterable[str], scratch: Path, packed: str = "") -> Path:
    """Each of `names` from `folder + name + packed` into `scratch`, which is returned; with ".gz" it is unpacked.

    OSError where one cannot be had whole.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    for name in names:
        retrieve(f"{folder}{name}{packed}", scratch / f"{name}{packed}")
        if packed == ".gz":
            with gzip.open(scratch / f"{name}.gz") as source, (scratch / name).open("wb") as target:
                shutil.copyfileobj(source, target)
    return scratch


def retrieve(address: str, path: Path) -> None:
    """Written piece by piece, so that who watches the file sees it grow. On a terminal a bar shows the time left."""
    with urllib.request.urlopen(address, timeout=CONNECT) as answer, path.open("wb") as file:
        what = {"desc": path.name, "total": answer.length, "unit": "B", "unit_scale": True}
        with tqdm.wrapattr(answer, "read", **what, delay=1, leave=False, disable=None) as read:
            shutil.copyfileobj(read, file)
        expected = answer.headers.get("Content-Length")
        if expected is not None and file.tell() != int(expected):
            raise OSError(f"{path.name}: {file.tell():,} of {int(expected):,} bytes came")
