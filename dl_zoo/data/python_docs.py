"""The language reference of Python as its interpreter carries it (`pydoc_data.topics`): a text without a download.

The help topics ("assert", "atom-identifiers", ... "yield"), in the order of their names. Topics quote one another at
length; a paragraph that has been there is left out, or validation would ask for what was learned by heart.

Another release of Python has another text, so the size of the vocabulary is known only here, and `fingerprint` tells
which text a run had. Licence: PSF.
"""

from dl_zoo.data.text_file import TextFile
from dl_zoo.errors import UserError


class PythonDocs(TextFile):
    """Settings: see TextFile; `path` has no place here."""

    origin = "python_docs"

    def text(self) -> str:
        if self.path is not None:
            raise UserError("data.path: data=python_docs knows its text; data=text_file reads one of your own")
        return documentation()


def documentation() -> str:
    """UserError where this interpreter comes without it, as some distributions' do."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError(
            "data=python_docs: this Python comes without its documentation (pydoc_data);"
            " data=text_file data.path=FILE takes any text"
        ) from error
    seen: set[str] = set()
    kept = []
    for name in sorted(topics):
        for paragraph in topics[name].strip().split("\n\n"):
            if paragraph.strip() and paragraph.strip() not in seen:
                kept.append(paragraph.rstrip())
                seen.add(paragraph.strip())
    return "\n\n".join(kept) + "\n"
