"""Random crop and mirror: the augmentation of CIFAR that most later papers report with.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385, section 4.2: 4 pixels of
padding on each side, and a random 32x32 crop of the padded picture or of its mirror image.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from dl_zoo.errors import UserError


def crop_flip(images: Tensor, generator: Generator, padding: int, flip: bool) -> Tensor:
    """Of each of (B, C, H, W), padded with `padding` zeros on each side, a random window of the old size.

    With `flip` a fair coin for each decides whether it is mirrored, left to right. The draws are the generator's, on
    the CPU; the pictures may be elsewhere. UserError for a negative padding.

    >>> images = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8).expand(64, 3, 32, 32)
    >>> crops = crop_flip(images, Generator().manual_seed(0), padding=4, flip=True)
    >>> crops.shape, len(crops.unique(dim=0)) > 20
    (torch.Size([64, 3, 32, 32]), True)
    """
    if not isinstance(padding, int) or padding < 0:
        raise UserError(f"regularizer.crop_flip.padding={padding}: must be a whole number of at least 0")
    count, _, height, width = images.shape
    down, across = torch.randint(2 * padding + 1, (2, count), generator=generator).to(images.device)  # (B,) each
    side = torch.randint(1 + flip, (count,), generator=generator).to(images.device)  # 1: mirrored
    padded = F.pad(images, [padding] * 4)
    both = torch.stack([padded, padded.flip(3)])  # (2, B, C, H + 2p, W + 2p)
    windows = both.unfold(3, height, 1).unfold(4, width, 1)  # a view, (2, B, C, 2p+1, 2p+1, H, W)
    return windows[side, torch.arange(count, device=images.device), :, down, across]  # (B, C, H, W)
