"""Tiny Shakespeare: 1,115,394 characters of his plays, 65 different ones; the text on which small models are compared.

Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks", 2015, whose program char-rnn brought it along.
The plays are in the public domain.

On disk: `<data_dir>/tinyshakespeare/input.txt`, downloaded when it is absent, compared with its SHA-256 when read.
"""

from pathlib import Path
from typing import ClassVar

from dl_zoo.data.download import Files, sha256
from dl_zoo.data.retrieval import retrieved
from dl_zoo.data.text_file import TextFile, decoded
from dl_zoo.errors import UserError


class TinyShakespeare(TextFile):
    """Settings: see TextFile; `path` has no place here."""

    origin = "tinyshakespeare"
    mirrors: ClassVar[list[str]] = ["https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"]
    digests: ClassVar[dict[str, str]] = {
        "input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    }

    @property
    def files(self) -> Files:
        return Files("tinyshakespeare", Path(self.data_dir), "tinyshakespeare", self.digests, sha256, "python_docs")

    def absent(self) -> list[str]:
        return self.files.missing()

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        self.files.fetch(self.mirrors, lambda mirror, scratch: retrieved(mirror, self.digests, scratch))

    def text(self) -> str:
        if self.path is not None:
            raise UserError("data.path: data=tinyshakespeare knows its file; data=text_file reads one of your own")
        self.prepare_data()
        path = self.files.checked("input.txt")
        return decoded(path.read_bytes(), str(path))
