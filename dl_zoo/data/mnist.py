"""MNIST: 70,000 scanned digits of 28x28 pixels, the set on which most of the early claims were made.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86(11), 1998,
section III-A. Licence: CC BY-SA 3.0, as commonly stated.

The official 10,000 test pictures are the test set, whole. Validation is 5,000 of the 60,000 training pictures, every
class in proportion, the same whatever the seed of a run. LeNet's 32x32 is the 28x28 picture framed in background (0).

On disk: torchvision's layout, `<data_dir>/MNIST/raw/`, downloaded when a file is absent. Each file is compared with its
SHA-256 whenever it is read (0.1 s for all four).
"""

from pathlib import Path
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from dl_zoo.data.download import Files, sha256
from dl_zoo.data.memory import Split, stratified
from dl_zoo.data.pictures import PictureData
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError


class MNIST(PictureData):
    """Sizes other than 28 are padded with background. The files' names, mirrors and archives' MD5 are torchvision's."""

    source: ClassVar[str] = "MNIST"  # torchvision's class, and the folder
    classes = [str(digit) for digit in range(10)]  # noqa: RUF012
    held_out: ClassVar[int] = 5_000  # for validation
    sizes = {"train": 60_000 - held_out, "val": held_out, "test": 10_000}  # noqa: RUF012
    digests: ClassVar[dict[str, str]] = {  # SHA-256 of the extracted files
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }

    @property
    def files(self) -> Files:
        return Files(self.source, Path(self.data_dir), f"{self.source}/raw", self.digests, sha256, "digits")

    def absent(self) -> list[str]:
        return self.files.missing()

    def prepare_data(self) -> None:
        """Downloads what is absent. UserError, within 15 s where there is no network, when it cannot be had."""
        if not self.absent():
            return
        import torchvision.datasets

        original = getattr(torchvision.datasets, self.source)

        def load(mirror: str, scratch: Path) -> Path:
            type(self.source, (original,), {"mirrors": [mirror]})(scratch, download=True)
            return scratch / self.source / "raw"

        self.files.fetch(original.mirrors, load)

    def read(self) -> dict[str, Split]:
        self.prepare_data()  # for who calls setup alone; nothing to do under a Trainer, which has called it
        images, targets = self._pair("train")
        train, val = stratified(targets, self.held_out)
        return {
            "train": (images[train], targets[train]),
            "val": (images[val], targets[val]),
            "test": self._pair("t10k"),
        }

    def _pair(self, part: str) -> tuple[Tensor, Tensor]:
        from torchvision.datasets.mnist import read_image_file, read_label_file

        kinds = ("images-idx3", "labels-idx1")
        images, labels = (str(self.files.checked(f"{part}-{kind}-ubyte")) for kind in kinds)
        return read_image_file(images).unsqueeze(1), read_label_file(labels)  # (N, 1, 28, 28), (N,)

    def fit_to(self, images: Inputs, size: int) -> Inputs:
        assert isinstance(images, Tensor)
        extra = size - images.shape[-1]
        if extra < 0:
            raise UserError(f"data.image_size={size}: the pictures are {images.shape[-1]} pixels wide and only padded")
        before, after = extra // 2, extra - extra // 2
        return F.pad(images, (before, after, before, after))
