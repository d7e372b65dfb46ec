"""Tones: six patterns that an ear tells apart at once, drawn at random. Sounds for who has no recordings.

A tone of a quarter of a second, of pitch f between 300 and 1,500 Hz, begins somewhere in the sound; t runs from 0 to 1
within it, u is its phase in turns, and the loudness is a(t):

    rising    u' = f (1 + t)             falling   u' = f (2 - t)
    steady    u' = 1.5 f                 tremolo   the same, a(t) = (1 - cos(2 pi 3 t)) / 2, which is 12 times a second
    pair      two at once, f and 2 f     burst     white noise instead of a tone

Pitch, phase, place and loudness are random, and so is the faint noise under it all; they say nothing of the class.
Rising and falling tones have the same frequencies for as long: only their order in time tells them apart.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_zoo.data.drawn import Drawn
from dl_zoo.data.sources import Inputs
from dl_zoo.errors import UserError

RATE = 8000  # samples a second
TONE = RATE // 4  # samples of the tone
RAMP = RATE // 100  # of its beginning and end, or else it would click


class Tones(Drawn):
    """Inputs (N, 1, 4000) float32 in -1..1, half a second; targets (N,): the pattern.

    Args:
        noise: deviation of what is under the sound, whose own loudness is from 0.1 to 0.8.
    """

    def __init__(self, dims: Mapping[str, Any], *, noise: float = 0.02, **settings: Any):
        super().__init__(dims, **settings)
        if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise <= 1:
            raise UserError(f"data.noise={noise}: must be from 0 to 1")
        self.classes = ["rising", "falling", "steady", "tremolo", "pair", "burst"]
        self.noise, self.samples = noise, RATE // 2

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        targets = random.randint(len(self.classes), size=count)
        sounds = self.noise * random.standard_normal((count, self.samples))
        for sound, target in zip(sounds, targets, strict=True):
            begin = random.randint(self.samples - TONE + 1)
            sound[begin : begin + TONE] += random.uniform(0.1, 0.8) * pattern(self.classes[target], random)
        return sounds.clip(-1, 1).astype(np.float32)[:, None], targets

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        known = {"samples": self.samples, "sample_rate": RATE, "features": self.samples}
        return {**known, "num_classes": len(self.classes)}


def pattern(name: str, random: np.random.RandomState) -> np.ndarray:
    """(TONE,) in -1..1."""
    pitch, phase = 300 * 5 ** random.rand(), random.rand()  # 300 to 1,500 Hz, as many below as above 671
    t = np.arange(TONE) / TONE
    turns = (
        {
            "rising": pitch * (t + t**2 / 2),
            "falling": pitch * (2 * t - t**2 / 2),
            "pair": pitch * t,
        }.get(name, 1.5 * pitch * t)
        * TONE
        / RATE
    )
    tone = np.sin(2 * np.pi * (turns + phase))
    if name == "pair":
        tone = (tone + np.sin(2 * np.pi * (2 * turns + random.rand()))) / 2
    if name == "tremolo":
        tone *= (1 - np.cos(2 * np.pi * 3 * t)) / 2
    if name == "burst":
        tone = (random.standard_normal(TONE) / 3).clip(-1, 1)
    return tone * np.minimum(1, np.minimum(np.arange(TONE), np.arange(TONE)[::-1]) / RAMP)
