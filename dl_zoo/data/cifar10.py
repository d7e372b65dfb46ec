"""CIFAR-10: 60,000 colour photographs of 32x32 pixels in ten classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report, University of Toronto, 2009,
chapter 3. No licence is stated.

The official 10,000 test pictures are the test set, whole. Validation is 5,000 of the 50,000 training pictures (as He
et al. 2015, section 4.2), every class in proportion, the same whatever the seed of a run.

On disk: torchvision's layout, `<data_dir>/cifar-10-batches-py/`, downloaded when a file is absent. The files are Python
pickles, which can run code: each is compared with its MD5, as torchvision states it, before it is unpickled.
"""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data.download import Files, md5
from dl_zoo.data.memory import Split, stratified
from dl_zoo.data.pictures import PictureData
from dl_zoo.data.sources import Inputs, Resized


class CIFAR10(PictureData):
    """Settings: see PictureData. Other sizes than 32 are bilinear, made batch by batch."""

    source: ClassVar[str] = "CIFAR10"  # torchvision's class
    batches: ClassVar[str] = "cifar-10-batches-py"  # the folder
    label_key: ClassVar[str] = "labels"  # in a batch
    parts: ClassVar[dict[str, list[str]]] = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
    digests: ClassVar[dict[str, str]] = {  # MD5
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    }
    classes = [  # noqa: RUF012
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    held_out: ClassVar[int] = 5_000  # for validation
    sizes = {"train": 50_000 - held_out, "val": held_out, "test": 10_000}  # noqa: RUF012

    @property
    def files(self) -> Files:
        return Files(self.source, Path(self.data_dir), self.batches, self.digests, md5, "shapes")

    def absent(self) -> list[str]:
        return self.files.missing()

    def prepare_data(self) -> None:
        """Downloads what is absent, 170 MB. UserError, within 15 s where there is no network, when it cannot be had."""
        if self.files.missing():
            from torchvision import datasets
            from torchvision.datasets.utils import download_and_extract_archive

            original = getattr(datasets, self.source)

            def load(address: str, scratch: Path) -> Path:
                download_and_extract_archive(address, scratch, filename=original.filename, md5=original.tgz_md5)
                return scratch / self.batches

            self.files.fetch([original.url], load)

    def read(self) -> dict[str, Split]:
        self.prepare_data()  # for who calls setup alone; nothing to do under a Trainer, which has called it
        return validated(self.original("train"), self.original("test"), self.held_out)

    def original(self, part: str) -> tuple[Tensor, Tensor]:
        """All pictures (N, 3, 32, 32) uint8 and classes (N,) of "train" or "test", in the files' order."""
        read = [unpickled(self.files.checked(file)) for file in self.parts[part]]
        pixels = np.concatenate([batch["data"] for batch in read])  # (N, 3072): red, green, blue, row by row
        targets = [label for batch in read for label in batch[self.label_key]]
        return torch.from_numpy(pixels).view(-1, 3, 32, 32), torch.tensor(targets)

    def fit_to(self, images: Inputs, size: int) -> Inputs:
        assert isinstance(images, Tensor)
        return images if size == images.shape[-1] else Resized(images, size)


def validated(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], held_out: int) -> dict[str, Split]:
    """With `held_out` of the training pictures for validation, every class in proportion."""
    images, targets = train
    kept, held = stratified(targets, held_out)
    return {"train": (images[kept], targets[kept]), "val": (images[held], targets[held]), "test": test}


def unpickled(path: Path) -> dict[str, Any]:
    """A file written by Python 2. Only of a checked file: a pickle can run code."""
    with path.open("rb") as file:
        return pickle.load(file, encoding="latin1")
