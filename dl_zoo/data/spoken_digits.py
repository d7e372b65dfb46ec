"""Spoken digits: six people say zero to nine in English, fifty times each. 3,000 recordings at 8 kHz.

Jackson et al., "Free Spoken Digit Dataset", https://github.com/Jakobovski/free-spoken-digit-dataset, v1.0.10. CC BY-SA
4.0. Its README says of the split: "Recordings numbered 0-4 (inclusive) are in the test and 5-49 are in the training
set"; so everybody who is heard in the test has been heard before (`fold=within`). Of those 45 recordings, 5-9 are held
out here for validation.

Hearing a stranger is much harder: `fold=0` to `5`, or a speaker's name, leaves one of the six out as the test set. The
next of SPEAKERS is the validation set, with all recordings: a stranger as well, since what is chosen by known voices is
not what hears a stranger best. So six runs with `data.fold=0,1,2,3,4,5` test on each speaker once.

Recordings last 0.14 to 2.3 s, and 20 of them (0.7 %) more than the second to which all are brought: longer ones are
cut, shorter ones followed by silence. Nothing tells a net where that begins; it is a sound like any other.

On disk: `<data_dir>/fsdd/recordings/{digit}_{speaker}_{index}.wav`, downloaded when absent. They are compared with one
SHA-256 of all names and contents whenever they are read; other files in the folder are not looked at.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from dl_zoo.data import wav
from dl_zoo.data.download import Files
from dl_zoo.data.memory import MemoryData, Split
from dl_zoo.data.retrieval import retrieve
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
WITHIN = "within"
RATE = 8000  # samples a second
FOLDER = "recordings"
Recording = tuple[int, str, int]  # digit, speaker, index
RECORDINGS: list[Recording] = list(product(range(10), SPEAKERS, range(50)))


class SpokenDigits(MemoryData):
    """Inputs (B, 1, S) float32 in -1..1, S = 8,000 a second; targets (B,): the digit.

    Args:
        fold: null or within: the official split; or the speaker who is the test set, by place 0..5 or by name.
        seconds: to which all recordings are brought.
    """

    classes = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]  # noqa: RUF012
    origin = "spoken_digits"
    archives: ClassVar[list[str]] = [
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.tar.gz",
    ]
    digest: ClassVar[str] = (
        "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"  # SHA-256, see `of_recordings`
    )

    def __init__(
        self, dims: Mapping[str, Any], *, fold: int | str | None = None, seconds: float = 1.0, **settings: Any
    ):
        super().__init__(dims, **settings)
        self.speaker = speaker_of(fold)
        self.samples = samples_of(seconds)
        self.fingerprint = self.digest[:16]

    # ---- files -----------------------------------------------------------------------------------------------------

    @property
    def files(self) -> Files:
        return Recordings("spoken_digits", Path(self.data_dir), "fsdd", {FOLDER: self.digest}, of_recordings, "tones")

    def absent(self) -> list[str]:
        return self.files.missing()

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        self.files.fetch(self.archives, self._load)

    def _load(self, address: str, scratch: Path) -> Path:
        (scratch / FOLDER).mkdir(parents=True)
        retrieve(address, scratch / "archive.tar.gz")
        names = {file_of(each) for each in RECORDINGS}
        with tarfile.open(scratch / "archive.tar.gz") as archive:
            for member in archive:  # the recordings alone, whatever else is in it
                *_, folder, name = ("", *member.name.split("/"))
                content = archive.extractfile(member) if folder == FOLDER and name in names else None
                if content is not None:
                    (scratch / FOLDER / name).write_bytes(content.read())
        return scratch

    # ---- sounds ----------------------------------------------------------------------------------------------------

    def read(self) -> dict[str, Split]:
        self.prepare_data()  # for who calls setup alone; nothing to do under a Trainer, which has called it
        folder = self.files.checked(FOLDER)
        parts: dict[str, list[Recording]] = {"train": [], "val": [], "test": []}
        for place in np.random.RandomState(0).permutation(len(RECORDINGS)):  # or the first batches would be all zeros
            parts[part_of(RECORDINGS[place], self.speaker)].append(RECORDINGS[place])
        return {
            part: (self.sounds(folder, its), torch.tensor([each[0] for each in its])) for part, its in parts.items()
        }

    def sounds(self, folder: Path, recordings: list[Recording]) -> Tensor:
        """(N, 1, S) float32"""
        paths = [folder / file_of(each) for each in recordings]
        return torch.stack([wav.fitted(wave, self.samples) for wave in decoded(paths)])

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        return {"samples": self.samples, "sample_rate": RATE, "features": self.samples, "num_classes": 10}

    def pretended(self, items: int, generator: Generator) -> Tensor:
        return 0.1 * torch.randn(items, 1, self.samples, generator=generator)


# ---- the files of the dataset ------------------------------------------------------------------------------------


class Recordings(Files):
    """A folder of thousands of files, which are brought and checked together."""

    def missing(self) -> list[str]:
        whole = all((self.place / FOLDER / file_of(each)).is_file() for each in RECORDINGS)
        return [] if whole else [f"{FOLDER}/ ({len(RECORDINGS):,} WAV files)"]

    def checked(self, file: str) -> Path:
        """The folder. UserError where one of its recordings is not the original."""
        path = self.place / file
        if self.kind(path) != self.digests[file]:
            raise UserError(
                f"{path.absolute()} is damaged (the SHA-256 of its {len(RECORDINGS):,} recordings is another):"
                " delete it to download it again"
            )
        return path

    def _take(self, downloaded: Path) -> None:
        if not all((downloaded / FOLDER / file_of(each)).is_file() for each in RECORDINGS):
            raise OSError("the archive lacks some of the recordings")
        if self.kind(downloaded / FOLDER) != self.digests[FOLDER]:
            raise OSError(f"{FOLDER} has another SHA-256 than the original")
        (self.place / FOLDER).mkdir(parents=True, exist_ok=True)
        for each in RECORDINGS:
            (downloaded / FOLDER / file_of(each)).replace(self.place / FOLDER / file_of(each))


def of_recordings(folder: Path) -> str:
    """SHA-256 over a line for each recording, sorted by name: the SHA-256 of its content, two blanks, its name.

    It is what `sha256sum *.wav | sha256sum` gives, where names are sorted by their bytes (LC_ALL=C).
    """
    whole = hashlib.sha256()
    for name in sorted(file_of(each) for each in RECORDINGS):
        whole.update(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n".encode())
    return whole.hexdigest()


def file_of(recording: Recording) -> str:
    digit, speaker, index = recording
    return f"{digit}_{speaker}_{index}.wav"


def decoded(paths: list[Path]) -> Iterator[Tensor]:
    """The sounds (S,) of these files. UserError, with the file's name, where one cannot be read."""
    for path in paths:
        try:
            yield wav.decoded(path, RATE)[0]
        except (wav.Unreadable, OSError) as error:
            raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


# ---- folds ---------------------------------------------------------------------------------------------------------


def speaker_of(fold: int | str | None) -> str | None:
    """The speaker who is left out; None: nobody. UserError: no such fold."""
    if fold in (None, WITHIN):
        return None
    if isinstance(fold, int) and not isinstance(fold, bool) and fold in range(len(SPEAKERS)):
        return SPEAKERS[fold]
    if fold in SPEAKERS:
        return str(fold)
    raise UserError(f"data.fold={fold}: must be within, from 0 to 5, or one of {', '.join(SPEAKERS)}")


def part_of(recording: Recording, left_out: str | None) -> str:
    """
    >>> [part_of((7, "theo", index), None) for index in (0, 4, 5, 9, 10, 49)]
    ['test', 'test', 'val', 'val', 'train', 'train']
    >>> [part_of((7, "theo", 0), speaker) for speaker in ("theo", "nicolas", "yweweler")]
    ['test', 'val', 'train']
    """
    _, speaker, index = recording
    if left_out is None:
        return "test" if index < 5 else "val" if index < 10 else "train"
    place = (SPEAKERS.index(speaker) - SPEAKERS.index(left_out)) % len(SPEAKERS)
    return {0: "test", 1: "val"}.get(place, "train")


def samples_of(seconds: float, rate: int = RATE) -> int:
    """UserError where that is no length of a sound."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.1 <= seconds <= 60:
        raise UserError(f"data.seconds={seconds}: must be from 0.1 to 60")
    return round(seconds * rate)
