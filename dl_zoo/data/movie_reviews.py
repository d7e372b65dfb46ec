"""Movie reviews: 10,662 sentences of film critics, half of them favourable; is a sentence one of those?

Pang, Lee, "Seeing stars: Exploiting class relationships for sentiment categorization with respect to rating scales",
2005, ACL, arXiv:cs/0506075: their sentence polarity dataset v1.0, from snippets of rottentomatoes.com. No licence is
stated; it is for research.

There is no official split: papers report the mean over ten folds (Kim 2014, arXiv:1408.5882, table 2). Sentence i of
each class is in fold i mod 10. `fold` is the test set, the next one validation, the other eight are for training; so
ten runs with `data.fold=0,1,2,3,4,5,6,7,8,9` are the cross validation.

The text is lower case already, with blanks between words and marks.

On disk: `<data_dir>/rt-polaritydata/rt-polarity.pos` and `.neg`, or `<data_dir>/mr_polarity/`, Latin-1, downloaded when
absent, compared with their SHA-256 whenever they are read.
"""

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dl_zoo.data.download import Files, sha256
from dl_zoo.data.retrieval import retrieve
from dl_zoo.data.sentences import Sentences
from dl_zoo.errors import UserError

FOLDS = 10
FOLDERS = ("rt-polaritydata", "mr_polarity")  # the archive's own name first


class MovieReviews(Sentences):
    """See `Sentences`.

    Args:
        fold: of 0..9, the test set.
    """

    classes = ["negative", "positive"]  # noqa: RUF012
    origin = "movie_reviews"
    usual_size = 18_000
    archives: ClassVar[list[str]] = [
        "https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz",
    ]
    digests: ClassVar[dict[str, str]] = {  # SHA-256; in the order of the classes
        "rt-polarity.neg": "4ace77d558c3714723843f1d65b60c01e3417b208180f0728808d76ad0eeeaca",
        "rt-polarity.pos": "2da124ec187a9d5a29c9f04e91c540e02baed5af8868f550a26bd6fd4dbf8bf0",
    }

    def __init__(self, dims: Mapping[str, Any], *, fold: int = 0, **settings: Any):
        super().__init__(dims, **settings)
        if fold not in range(FOLDS):
            raise UserError(f"data.fold={fold}: must be from 0 to {FOLDS - 1}")
        self.fold = fold

    @property
    def files(self) -> Files:
        root = Path(self.data_dir)
        whole = [name for name in FOLDERS if all((root / name / file).is_file() for file in self.digests)]
        return Files("movie_reviews", root, (whole or FOLDERS)[0], self.digests, sha256, "digits")

    def absent(self) -> list[str]:
        return self.files.missing()

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        self.files.fetch(self.archives, self._load)

    def _load(self, address: str, scratch: Path) -> Path:
        scratch.mkdir(parents=True)
        retrieve(address, scratch / "archive.tar.gz")
        with tarfile.open(scratch / "archive.tar.gz") as archive:
            for file in self.digests:  # these alone, whatever else is in it
                content = archive.extractfile(f"{FOLDERS[0]}/{file}")
                assert content is not None
                (scratch / file).write_bytes(content.read())
        return scratch

    def texts(self) -> dict[str, list[tuple[str, int]]]:
        self.prepare_data()  # for who calls setup alone; nothing to do under a Trainer, which has called it
        folds: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
        for label, file in enumerate(self.digests):
            content = self.files.checked(file).read_text(encoding="latin-1")
            for place, line in enumerate(content.removesuffix("\n").split("\n")):
                folds[part_of(place % FOLDS, self.fold)].append((line.strip(), label))
        return folds


def part_of(fold: int, test: int) -> str:
    """
    >>> [part_of(fold, 9) for fold in (9, 0, 1)]
    ['test', 'val', 'train']
    """
    return {test: "test", (test + 1) % FOLDS: "val"}.get(fold, "train")
