"""ImageNet: the 1,281,167 photographs of a thousand classes of the challenge of 2012 (ILSVRC).

Russakovsky, Deng, Su et al., "ImageNet Large Scale Visual Recognition Challenge", 2015, arXiv:1409.0575. It needs a
registration, so nothing is downloaded.

    <data.path>/train/<wnid>/*.JPEG
    <data.path>/val/<wnid>/*.JPEG     or     <data.path>/val/ILSVRC2012_val_*.JPEG and one file of labels:
    <data.path>/val_labels.txt               a line a picture: the wnid, in the order of the names, or name and wnid
    <data.path>/LOC_val_solution.csv         as Kaggle gives it

The devkit's `ILSVRC2012_validation_ground_truth.txt` does not suffice: which class its numbers mean is in another file.
Classes are wnids (n01440764 ...), in ascending order, as in torchvision's weights.

The official test labels are secret. As the field reports, the 50,000 validation pictures are the test set; validation
is `val_items` of the training pictures, every class in proportion, the same whatever the seed of a run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dl_zoo.data.image_folder import ImageFolder, Listing, arranged
from dl_zoo.data.memory import at_least_one
from dl_zoo.errors import UserError

LABELS = ("val_labels.txt", "LOC_val_solution.csv")


class ImageNet(ImageFolder):
    """Settings: see ImageFolder and PictureData. UserError, with what is expected where, for what is missing."""

    def __init__(self, dims: Mapping[str, Any], *, path: str, val_items: int = 10_000, **settings: Any):
        super().__init__(dims, path=path, **settings)
        at_least_one("val_items", val_items)
        self.val_items = val_items

    def val_count(self, count: int) -> int:
        return self.val_items

    def absent(self) -> list[str]:
        return [part for part in ("train", "val") if not (self.path / part).is_dir()]

    def pretend(self, items: int) -> None:
        """Without the files too, since nobody can be told to download them."""
        self.classes = self.classes or [f"class {number}" for number in range(int(self.dims["num_classes"] or 1000))]
        super(ImageFolder, self).pretend(items)

    def arranged(self, names: Sequence[str], folders: Sequence[str]) -> Listing:
        flat = sorted(name for name in names if name.startswith("val/") and name.count("/") == 1)
        if not flat:
            return super().arranged(names, folders)
        labels = labels_of_flat(self.path, [Path(name).name for name in flat])
        rest = arranged(self.path, sorted(set(names) - set(flat)), [each for each in folders if each != "val"])
        if strange := sorted(set(labels.values()) - set(rest.classes)):
            raise UserError(f"{self.path}: class {strange[0]} of the val folder is not among the training pictures")
        return Listing(
            [*rest.names, *flat],
            [*rest.parts, *["val"] * len(flat)],
            [*rest.folders, *(labels[Path(name).name] for name in flat)],
            rest.classes,
        )

    def _names(self) -> tuple[list[str], list[str]]:
        if missing := self.absent():
            raise UserError(
                f"ImageNet: {' and '.join(missing)} not found in {self.path}, where train/<wnid>/*.JPEG and val/ are"
                " expected (register at image-net.org; data.path= names another folder)"
            )
        return super()._names()


def labels_of_flat(root: Path, files: Sequence[str]) -> dict[str, str]:
    """The wnid of each file of a val folder without class folders; `files` in ascending order."""
    found = next((root / name for name in LABELS if (root / name).is_file()), None)
    if found is None:
        raise UserError(
            f"{root / 'val'} has no class folders: their labels are expected in {root / LABELS[0]} (a wnid a line, in"
            f" the order of the names) or {LABELS[1]}"
        )
    rows = [line.replace(",", " ").split() for line in found.read_text(encoding="utf-8").splitlines() if line.strip()]
    if found.name.endswith(".csv"):
        rows = rows[1:]  # the heading
    if all(len(row) == 1 for row in rows) and len(rows) == len(files):
        return dict(zip(files, (row[0] for row in rows), strict=True))
    labels = {Path(row[0]).stem: row[1] for row in rows if len(row) > 1}
    unlabelled = [file for file in files if Path(file).stem not in labels]
    if unlabelled:
        raise UserError(f"{found} has no label for {len(unlabelled)} of {len(files)} pictures, such as {unlabelled[0]}")
    return {file: labels[Path(file).stem] for file in files}
