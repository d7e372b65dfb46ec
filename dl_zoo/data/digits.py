"""Digits: 1,797 real scans of 8x8 pixels that come with scikit-learn, so that a first run needs no download.

Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, licence CC BY 4.0.
The file is UCI's test part: 32x32 bitmaps, of which each 4x4 block is counted to a value in 0..16.

Two splits, both 1,077 / 360 / 360 and the same whatever the seed of a run:

- `stratified`: every class in proportion. Train and test share their writers, as in most tutorials.
- `writers`: the test set is the last 360 scans. The file is ordered by writer (it names none, but the same sequence of
  digits starts anew about every 128 scans), so these were written by other people than the first 1,415; only the writer
  at the seam has 22 scans on the training side. The harder test, and the more honest.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dl_zoo.data.memory import Split, stratified
from dl_zoo.data.pictures import PictureData
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError

HELD_OUT = 360  # in validation, and again in test


class Digits(PictureData):
    """Settings: see PictureData. `data_dir` is not used: the scans are in the package. Larger sizes are bilinear."""

    classes = [str(digit) for digit in range(10)]  # noqa: RUF012
    sizes = {"train": 1797 - 2 * HELD_OUT, "val": HELD_OUT, "test": HELD_OUT}  # noqa: RUF012

    def __init__(self, dims: Mapping[str, Any], *, split: str = "stratified", **settings: Any):
        super().__init__(dims, **settings)
        if split not in ("stratified", "writers"):
            raise UserError(f"data.split={split}: must be stratified or writers")
        self.split = split

    def read(self) -> dict[str, Split]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)  # (1797, 1, 8, 8)
        targets = torch.from_numpy(digits.target).long()
        return {name: (images[chosen], targets[chosen]) for name, chosen in self._indices(targets).items()}

    def _indices(self, targets: Tensor) -> dict[str, Tensor]:
        if self.split == "writers":
            first, test = torch.arange(len(targets)).split([len(targets) - HELD_OUT, HELD_OUT])
        else:
            first, test = stratified(targets, HELD_OUT)
        train, val = stratified(targets[first], HELD_OUT)
        return {"train": first[train], "val": first[val], "test": test}

    def fit_to(self, images: Inputs, size: int) -> Inputs:
        assert isinstance(images, Tensor)
        if size < images.shape[-1]:
            raise UserError(f"data.image_size={size}: the scans are {images.shape[-1]} pixels wide and only enlarged")
        enlarged = F.interpolate(images.float(), size=(size, size), mode="bilinear", align_corners=False)
        return enlarged.round().to(torch.uint8)
