"""Picture files to tensors: one way of opening, turning, cutting and scaling for every dataset and for `predict`."""

import errno
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")  # in lower case
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # and no other: Pillow runs programs for some
MODES = {1: "L", 3: "RGB"}  # of Pillow, by channels
DECODER = 1  # of `decoded`: raise it when other pixels come out, so that no cache holds the old ones
ABSENT = (errno.ENOENT, errno.ELOOP, errno.EISDIR)  # a link that leads nowhere, a folder named like a picture


class Unreadable(ValueError):
    """A file that is no picture, or a damaged one; the text says why, without the file's name."""


def decoded(source: Path | bytes, channels: int, size: int) -> Tensor:
    """The picture of a file, or of a file's bytes: uint8 (channels, size, size), with 1 channel (grey) or 3 (RGB).

    Turned as its EXIF orientation says; what is transparent is laid on white; of 16-bit grey the upper 8 are kept. The
    centre square, as wide as the picture's shorter side, is scaled to `size` by an antialiased bilinear filter. That is
    the shorter side brought to `size` and then a centre crop, without scaling what is cut away. A picture of that size
    is left as it is. Of an animation the first picture counts. Unreadable where there is no whole picture.
    """
    if channels not in MODES:
        raise ValueError(f"channels={channels}: must be 1 or 3")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            picture = _plain(ImageOps.exif_transpose(image)).convert(MODES[channels])
    except Image.UnidentifiedImageError:
        raise Unreadable(f"is no picture of a known format ({', '.join(FORMATS)})") from None
    except Exception as error:  # each reader raises its own: OSError, SyntaxError, struct.error, ...
        passing = isinstance(error, OSError) and error.errno is not None and error.errno not in ABSENT
        if passing or isinstance(error, MemoryError):  # of the machine, not of the file: it may be gone tomorrow
            raise
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from error
    pixels = np.array(_square(picture, size))  # (S, S) or (S, S, 3)
    return torch.from_numpy(pixels).view(size, size, channels).permute(2, 0, 1).contiguous()


def check(path: Path) -> None:
    """Raises Unreadable where a file does not begin as a picture does; its pixels are not looked at."""
    try:
        with Image.open(path, formats=FORMATS):
            pass
    except Image.UnidentifiedImageError:
        raise Unreadable(f"is no picture of a known format ({', '.join(FORMATS)})") from None
    except OSError as error:
        if error.errno is not None and error.errno not in ABSENT:
            raise
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from error


def _plain(image: Image.Image) -> Image.Image:
    """Without transparency, and of 8 bits."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    if image.mode.startswith("I"):  # Pillow's own conversion cuts at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    return image


def _square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    if side == size:  # whole pixels, so that nothing is blurred
        return image.crop((int(left), int(top), int(left) + size, int(top) + size))
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
