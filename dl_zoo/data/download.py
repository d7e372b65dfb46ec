"""Downloads of known datasets: into a scratch folder, by one process, with an end to waiting, checked or not at all.

Where a dataset lies is torchvision's knowledge; each dataset's file asks for it.
"""

import hashlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from dl_zoo.errors import UserError

# In seconds. An absent network is told within TRIES * STALL = 12, however it hangs.
TRIES = 2
CONNECT = 5.0  # for a connection, and for each read
STALL = 6.0  # without a byte until a try is given up: the look-up of a name knows no limit of its own


@dataclass(frozen=True)
class Files:
    """The files of a known dataset in `root / folder`, each with its digest, which `kind` (sha256 or md5) computes."""

    name: str
    root: Path
    folder: str
    digests: Mapping[str, str]
    kind: Callable[[Path], str]
    instead: str  # a dataset that needs no download

    @property
    def place(self) -> Path:
        return self.root / self.folder

    def missing(self) -> list[str]:
        return [file for file in self.digests if not (self.place / file).is_file()]

    def checked(self, file: str) -> Path:
        """Its path. UserError where it is not the original."""
        path = self.place / file
        if self.kind(path) != self.digests[file]:
            kind = KINDS[self.kind]
            raise UserError(f"{path.absolute()} is damaged (its {kind} is another): delete it to download it again")
        return path

    def fetch(self, sources: Sequence[str], load: Callable[[str, Path], Path]) -> None:
        """Brings what is missing. UserError, within 15 s where there is no network, when it cannot be had.

        `load(source, scratch)` downloads all files from one of `sources`, which are addresses, into an empty folder and
        returns the folder in which they then lie. Sources are tried in turn, TRIES in all. Scratch and lock lie in
        `root`, on the disk of the place; only whole files of the right digest move there.
        """
        if not self.missing():
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{self.name}.lock"):
                if self.missing():  # else another process had the lock before and got them
                    self._try(sources, load, self.root / f".{self.name}.download")
        except OSError as error:
            raise UserError(
                f"{self.name}: expected {', '.join(self.missing())} in {self.place.absolute()}, and the download"
                f" failed ({error}); data={self.instead} runs without a download"
            ) from error

    def _try(self, sources: Sequence[str], load: Callable[[str, Path], Path], scratch: Path) -> None:
        shutil.rmtree(scratch, ignore_errors=True)  # a killed download's: the lock says that nobody is in it
        failures = []
        try:
            for number, source in enumerate(islice(cycle(sources), TRIES)):
                own = scratch / str(number)
                try:
                    return self._take(watched(partial(load, source, own), scratch))
                except OSError as error:
                    reason = str(error).rsplit("got: ", 1)[-1].strip()  # torchvision puts the address before it
                    failures.append(f"{urlsplit(source).hostname}: {reason}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        raise OSError("; ".join(dict.fromkeys(failures)))

    def _take(self, downloaded: Path) -> None:
        for file, digest in self.digests.items():
            if self.kind(downloaded / file) != digest:
                raise OSError(f"{file} has another {KINDS[self.kind]} than the original")
        self.place.mkdir(parents=True, exist_ok=True)
        for file in self.missing():
            (downloaded / file).replace(self.place / file)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """Against damage and mix-ups; nobody can forge a file of a given MD5 (a second preimage)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


KINDS: dict[Callable[[Path], str], str] = {sha256: "SHA-256", md5: "MD5"}


def watched(download: Callable[[], Path], folder: Path) -> Path:
    """Runs `download`, which fills `folder`; gives up when the folder stops growing. OSError, of one line, on failure.

    In a thread, since nothing else ends the look-up of a name that hangs. A thread given up is a daemon: it ends by its
    own time limits or with the process.
    """
    failures: list[Exception] = []
    results: list[Path] = []

    def work() -> None:
        try:
            results.append(download())
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
    return results[0]
