"""Fashion-MNIST: 70,000 pictures of clothes in MNIST's format, harder than digits at the same cost.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017,
arXiv:1708.07747. Licence: MIT.

Splits, sizes, layout (`<data_dir>/FashionMNIST/raw/`) and download are MNIST's: see its file.
"""

from typing import ClassVar

from dl_zoo.data.mnist import MNIST


class FashionMNIST(MNIST):
    source: ClassVar[str] = "FashionMNIST"
    classes = [  # noqa: RUF012
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ]
    digests: ClassVar[dict[str, str]] = {  # SHA-256 of the extracted files, as several loaders of it publish
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
