"""Moving digits: generated video whose class is the direction of motion, which no single frame shows.

After Srivastava, Mansimov, Salakhutdinov, "Unsupervised Learning of Video Representations using LSTMs", 2015,
arXiv:1502.04681, section 4.1, "Moving MNIST"; there frames are to be predicted and digits bounce, here the direction is
asked for and they wrap around: what leaves at one edge comes in at the opposite one.

A scan of scikit-learn's digits moves over a dark square: steadily up, right, down or left, and across that way it is
shaken. At time t, counted from the middle of the clip, it is at

    along     start  + round(+-speed * t)           modulo the square's width
    across    start' + round(speed' * shaken(t))    modulo the square's width

Starts are uniform over all pixels, both speeds are drawn alike, and `shaken` puts the times of the clip out of order.
What can be known without their order follows from that:

- *one frame*: both places are uniform over all pixels, since the starts are, whatever the class, speeds and t; and
  which scan it is depends on no class. So nobody tells the class from a frame better than by guessing.
- *all frames, out of order* (`shuffled`): then the places along are as much out of order as those across. Times are
  symmetric about 0, and so is rounding: one way and the opposite have the same places. So the clips of all four classes
  are one and the same draw, and again nobody does better than by guessing. Without the shaking the frames would lie
  on a line that tells up or down from left or right, in any order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dl_zoo.data.digits import Digits
from dl_zoo.data.drawn import SPLITS, Drawn
from dl_zoo.data.memory import MemoryLoader, Split, at_least_one
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError

SCAN = 8  # pixels


class MovingDigits(Drawn):
    """Inputs (N, 1, frames, size, size), uint8 until a batch is made of them; targets (N,), classes in turn.

    Training, validation and test clips show different scans: those of `Digits`' splits.

    Args:
        frames: of a clip, T.
        size: width of the square, in pixels.
        slowest, fastest: speeds are uniform between them, in pixels a frame.
        noise: deviation of a uniform one, where values are in 0..1.
        shuffled: each clip's frames in an order of their own: the control, of the same clips.
        mean, std: of a pixel in 0..1.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        frames: int = 8,
        size: int = 16,
        slowest: float = 1.5,
        fastest: float = 2.5,
        noise: float = 0.0,
        shuffled: bool = False,
        mean: float = 0.0,
        std: float = 1.0,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        at_least_one("frames", frames)
        at_least_one("size", size)
        if frames < 2:
            raise UserError(f"data.frames={frames}: must be at least 2, for a motion")
        if size < SCAN:
            raise UserError(f"data.size={size}: the scans are {SCAN} pixels wide, and the square must hold one")
        if not 0 < slowest <= fastest < size / 2:
            what = f"0 < slowest <= fastest < {size / 2:g}, half the square: what is faster seems to move backwards"
            raise UserError(f"data.slowest={slowest}, data.fastest={fastest}: must be {what}")
        if noise < 0:
            raise UserError(f"data.noise={noise}: must be at least 0")
        if std <= 0:
            raise UserError(f"data.std={std}: must be above 0")
        self.frames, self.size, self.slowest, self.fastest = frames, size, slowest, fastest
        self.noise, self.shuffled = noise, shuffled
        self.normalisation = {"mean": [float(mean)], "std": [float(std)]}
        self.classes = ["up", "right", "down", "left"]

    def draw(self, draw: int, count: int) -> Split:
        random, scans = np.random.RandomState(draw), scans_of(SPLITS[draw % len(SPLITS)])
        targets = np.arange(count) % len(self.classes)
        shown = scans[random.randint(len(scans), size=count)]
        places = self.places(random, targets)
        if self.shuffled:
            places = np.take_along_axis(places, orders(random, count, self.frames)[..., None], axis=1)
        rows, columns = ((places[..., axis, None] + np.arange(SCAN)) % self.size for axis in (0, 1))  # (N, T, 8) each
        clips = np.zeros((count, 1, self.frames, self.size, self.size), dtype=np.uint8)
        item, frame = np.ogrid[:count, : self.frames]
        clips[item[..., None, None], 0, frame[..., None, None], rows[..., None], columns[:, :, None]] = shown[:, None]
        clips = noisy(clips, self.noise, random) if self.noise else clips
        return torch.from_numpy(clips), torch.from_numpy(targets)

    def places(self, random: np.random.RandomState, targets: np.ndarray) -> np.ndarray:
        """(N, T, 2): row and column of the scan's upper left corner, before it wraps around."""
        count = len(targets)
        starts = random.randint(self.size, size=(count, 1, 2))
        speeds = random.uniform(self.slowest, self.fastest, (2, count, 1))
        times = np.arange(self.frames) - (self.frames - 1) / 2
        sign = np.where((targets == 1) | (targets == 2), 1, -1)[:, None]  # rows go down, columns to the right
        along = np.round(sign * speeds[0] * times)  # (N, T)
        across = np.round(speeds[1] * times[orders(random, count, self.frames)])
        upright = (targets % 2 == 0)[:, None, None]
        moves = np.where(upright, np.stack([along, across], 2), np.stack([across, along], 2))
        return starts + moves.astype(np.int64)

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        sizes = {"channels": 1, "frames": self.frames, "image_size": self.size}
        return {**sizes, "features": inputs.shape[1:].numel(), "num_classes": len(self.classes)}

    def loader(self, split: str, shuffle: bool = False, **settings: Any) -> MemoryLoader:
        return super().loader(split, shuffle, **{**self.normalisation, **settings})


def orders(random: np.random.RandomState, count: int, frames: int) -> np.ndarray:
    """(count, frames): uniform permutations."""
    return random.rand(count, frames).argsort(axis=1)


def scans_of(split: str) -> np.ndarray:
    """(M, 8, 8) uint8"""
    images, _ = Digits({}).read()[split]
    assert isinstance(images, torch.Tensor)
    return images[:, 0].numpy()


def noisy(clips: np.ndarray, noise: float, random: np.random.RandomState) -> np.ndarray:
    uniform = np.frombuffer(random.bytes(clips.size), np.uint8).reshape(clips.shape)
    moved = clips + (uniform - np.float32(127.5)) * np.float32(noise * np.sqrt(12) * 255 / 256)  # as in shapes
    return moved.clip(0, 255).round().astype(np.uint8)
