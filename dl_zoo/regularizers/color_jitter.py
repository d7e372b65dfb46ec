"""Colour jitter: what a thing is does not depend on the light.

Howard, "Some Improvements on Deep Convolutional Neural Network Based Image Classification", 2013, arXiv:1312.5402:
contrast, brightness and colour of each training picture changed at random, beside Krizhevsky's noise (`pca_noise`).
How far is not the paper's. The changes, in random order, with p a pixel in 0..1, f its picture's factor and
grey = 0.2989 R + 0.587 G + 0.114 B:

    brightness   f p                                contrast   f p + (1 - f) (mean of grey over the picture)
    saturation   f p + (1 - f) grey                 hue        H + d of the picture in hue, saturation and value

each cut off to 0..1: torchvision's definitions. d is a share of the whole circle of colours.

Departure: the order is drawn once a batch, the factors for each picture.
"""

import torch
from torch import Generator, Tensor

from dl_zoo.errors import UserError

GREY = (0.2989, 0.587, 0.114)


def color_jitter(
    images: Tensor, generator: Generator, brightness: float, contrast: float, saturation: float, hue: float
) -> Tensor:
    """Each of (B, C, H, W) uint8 in other light. Pictures of one channel have neither saturation nor hue.

    The draws are the generator's, on the CPU; the pictures may be elsewhere.

    Args:
        brightness, contrast, saturation: factors are uniform in [max(0, 1 - x), 1 + x]; 0 leaves out.
        hue: the turn is uniform in [-hue, hue], at most 0.5; 0 leaves out.
    Raises:
        UserError: for other numbers, and for pictures of neither 1 nor 3 channels.

    >>> grey = torch.full((3, 3, 1, 1), 100, dtype=torch.uint8)
    >>> color_jitter(grey, Generator().manual_seed(0), brightness=0.5, contrast=0, saturation=0, hue=0).flatten(1)
    tensor([[100, 100, 100],
            [127, 127, 127],
            [ 59,  59,  59]], dtype=torch.uint8)
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, value in strengths.items():
        if not 0 <= value < float("inf") or (name == "hue" and value > 0.5):
            most = ", at most 0.5" if name == "hue" else ""
            raise UserError(f"regularizer.color_jitter.{name}={value}: must be at least 0{most}")
    channels = images.shape[1]
    if channels not in (1, 3):
        raise UserError(
            f"regularizer=color_jitter: the pictures have {channels} channels; it needs 1 or 3; leave it out"
        )
    draws = torch.rand(4, len(images), 1, 1, 1, generator=generator).to(images.device, non_blocking=True)
    order = torch.randperm(4, generator=generator).tolist()
    pixels = images.float() / 255
    for change in order:
        name = ("brightness", "contrast", "saturation", "hue")[change]
        strength = strengths[name]
        if strength and (channels == 3 or name in ("brightness", "contrast")):
            low, high = (-strength, strength) if name == "hue" else (max(0.0, 1 - strength), 1 + strength)
            pixels = CHANGES[name](pixels, low + draws[change] * (high - low))
    return (pixels * 255).round_().to(images.dtype)


def brighten(pixels: Tensor, factor: Tensor) -> Tensor:
    return (pixels * factor).clamp_(0, 1)


def contrasted(pixels: Tensor, factor: Tensor) -> Tensor:
    return grey(pixels).mean((1, 2, 3), keepdim=True).lerp(pixels, factor).clamp_(0, 1)


def saturated(pixels: Tensor, factor: Tensor) -> Tensor:
    return grey(pixels).lerp(pixels, factor).clamp_(0, 1)


def hued(pixels: Tensor, turn: Tensor) -> Tensor:
    """(B, 3, H, W) with hues turned by (B, 1, 1, 1) of the circle; value and chroma stay.

    Hue counts sixths from red: 0 red, 2 green, 4 blue. Channel n (red 5, green 3, blue 1) of hue H, value V and chroma
    C is V - C max(0, min(k, 4 - k, 1)) with k = (n + H) mod 6: V over two sixths, then down, C less over two, then up.
    """
    red, green, blue = pixels.unbind(1)
    value, at = pixels.max(1)  # (B, H, W)
    chroma = value - pixels.amin(1)
    ahead = torch.stack([green - blue, blue - red, red - green], dim=1).gather(1, at[:, None])[:, 0]
    sixths = 2 * at + ahead / chroma.clamp(min=1e-12) + 6 * turn[:, 0]
    k = torch.stack([sixths + n for n in (5, 3, 1)], dim=1).remainder(6)  # (B, 3, H, W)
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp_(0, 1)


def grey(pixels: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, H, W)."""
    if pixels.shape[1] == 1:
        return pixels
    return sum(weight * pixels[:, c : c + 1] for c, weight in enumerate(GREY))  # type: ignore[return-value]


CHANGES = {"brightness": brighten, "contrast": contrasted, "saturation": saturated, "hue": hued}
