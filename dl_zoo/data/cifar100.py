"""CIFAR-100: 60,000 colour photographs of 32x32 pixels in a hundred classes, 500 of each for training.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report, University of Toronto, 2009,
chapter 3. No licence is stated.

Splits, layout (`<data_dir>/cifar-100-python/`), download and checks are CIFAR-10's: see its file. The targets are the
fine labels.
"""

from typing import ClassVar

from dl_zoo.data.cifar10 import CIFAR10


class CIFAR100(CIFAR10):
    source: ClassVar[str] = "CIFAR100"
    batches: ClassVar[str] = "cifar-100-python"
    label_key: ClassVar[str] = "fine_labels"
    parts: ClassVar[dict[str, list[str]]] = {"train": ["train"], "test": ["test"]}
    digests: ClassVar[dict[str, str]] = {  # MD5
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    }
    classes = (  # noqa: SIM905
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly "
        "camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup "
        "dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower "
        "leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid "
        "otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
        "road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
        "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle "
        "wardrobe whale willow_tree wolf woman worm"
    ).split(" ")
