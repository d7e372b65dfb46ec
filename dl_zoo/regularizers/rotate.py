"""Random rotation: what a picture shows stays the same when it is held a little askew.

Simard, Steinkraus, Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis",
ICDAR 2003, section 2: rotations among the affine distortions, read off by bilinear interpolation.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def rotate(images: Tensor, generator: Generator, degrees: float) -> Tensor:
    """Each of (B, C, H, W) uint8 turned about its centre by its own angle, uniform in [-degrees, degrees].

    The draw is the generator's, on the CPU; the pictures may be elsewhere. What comes in from outside is 0.

    >>> white = torch.full((64, 1, 9, 9), 255, dtype=torch.uint8)
    >>> turned = rotate(white, Generator().manual_seed(0), degrees=45.0)
    >>> turned[:, 0, 4, 4].min().item(), turned[:, 0, 0, 0].min().item()  # the centre, and a corner
    (255, 0)
    """
    count, _, height, width = images.shape
    angle = (torch.rand(count, generator=generator) * 2 - 1).mul(degrees).deg2rad()  # (B,)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(count)
    # Coordinates run from -1 to 1 over each side, so of a picture that is not square they need its aspect.
    rows = [cos, -sin * height / width, zero, sin * width / height, cos, zero]
    turns = torch.stack(rows, dim=1).view(count, 2, 3).to(images.device)  # of the places to read from
    grid = F.affine_grid(turns, list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images.float(), grid, align_corners=False).round_().to(images.dtype)
