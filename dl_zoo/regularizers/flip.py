"""Random mirroring: what a picture shows stays the same when left and right change places.

Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, NIPS,
section 4.1: horizontal reflections, which double the training set at no cost in storage. `crop_flip` shifts as well.
"""

import torch
from torch import Generator, Tensor


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Each of (B, C, H, W) mirrored left to right or not, by a fair coin of its own.

    The draws are the generator's, on the CPU; the pictures may be elsewhere.

    >>> images = torch.tensor([1, 2], dtype=torch.uint8).expand(6, 1, 1, 2)
    >>> flip(images, Generator().manual_seed(0))[:, 0, 0].tolist()
    [[1, 2], [2, 1], [2, 1], [1, 2], [2, 1], [2, 1]]
    """
    mirrored = torch.randint(2, (len(images),), generator=generator).bool().to(images.device, non_blocking=True)
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
