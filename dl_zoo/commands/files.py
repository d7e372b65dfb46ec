"""Which files the words of a command line name: themselves, those in folders, and those that match a pattern."""

import codecs
import glob
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dl_zoo.errors import UserError


def picture_files(words: Sequence[str]) -> list[Path]:
    """The pictures that the words name, each once. UserError: as `named` and `files_of`."""
    return files_of(named(words), pictures_in, "pictures")


def text_files(words: Sequence[str]) -> list[Path]:
    """The same of files of text."""
    return files_of(named(words), lambda folder: files_in(folder, (".txt",)), "texts")


def named(words: Sequence[str]) -> dict[str, list[Path]]:
    """The files and folders behind each word: itself, or what matches its pattern. UserError: there is nothing."""
    return {word: _behind(word) for word in words}


def _behind(word: str) -> list[Path]:
    path = Path(word).expanduser()
    matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        raise UserError(f"{word}: there is no such file, folder or pattern of files")
    return matches


def files_of(places: Mapping[str, Sequence[Path]], inside: Callable[[Path], list[Path]], what: str) -> list[Path]:
    """Each file once: themselves, and those that `inside` finds in folders. UserError: a word of which none is left."""
    files: list[Path] = []
    for word, paths in places.items():
        those = [file for path in paths for file in (inside(path) if path.is_dir() else [path])]
        if not those:
            raise UserError(f"{word}: holds no {what}, by their names' endings; name the files themselves")
        files += those
    return list(dict.fromkeys(files))


def pictures_in(folder: Path) -> list[Path]:
    from dl_zoo.data.decoding import SUFFIXES

    return files_in(folder, SUFFIXES)


def files_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in endings and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def is_text(file: Path) -> bool:
    """By its beginning; what is called a picture or is empty is none."""
    from dl_zoo.data.decoding import SUFFIXES

    if file.suffix.lower() in SUFFIXES or not file.is_file():  # a pipe is read once only
        return False
    try:
        with file.open("rb") as opened:
            beginning = opened.read(4096)
        return "\0" not in (codecs.getincrementaldecoder("utf-8")().decode(beginning) or "\0")
    except (OSError, UnicodeDecodeError):
        return False


def shown_path(path: Path) -> str:
    """A name that is no text (bytes of another encoding) with these bytes written out."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
