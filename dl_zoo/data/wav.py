"""WAV files to tensors: one way of reading, mixing, resampling and fitting, for datasets of sound and for `predict`.

SciPy reads them: PCM of 8, 16, 24 or 32 bits, and floating point. `torchaudio.load` would need the package torchcodec.
"""

import math
import struct
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SUFFIXES = (".wav", ".wave")  # in lower case
KERNEL = 2**26  # of a resampling: rates without a common divisor need billions of weights


class Unreadable(ValueError):
    """A file that is no WAV, a damaged one, or one without a sound; the text says why, without the file's name."""


def decoded(path: Path, rate: int) -> tuple[Tensor, int]:
    """The sound of a file, float32 (S,) in -1..1 at `rate` samples a second, and the rate that it was recorded at.

    Channels are averaged. Another rate is resampled, by windowed sinc interpolation (`torchaudio.functional.resample`).
    """
    theirs, samples = _read(path)
    if samples.ndim == 2:  # (S, channels)
        samples = samples.mean(1)
    if not len(samples):
        raise Unreadable("holds no sound: its length is zero")
    if not np.isfinite(samples).all():
        raise Unreadable("holds samples that are no numbers")
    return resampled(torch.from_numpy(samples.astype(np.float32)), theirs, rate), theirs


def _read(path: Path) -> tuple[int, np.ndarray]:
    """Samples a second, and the samples in -1..1: (S,), or (S, channels) where there are several."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks beside the sound
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except wavfile.WavFileWarning:
        raise Unreadable("ends too early: it is shorter than it says") from None
    except (ValueError, struct.error, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "not understood" in reason:  # of the first bytes, which are WAV's name
            raise Unreadable("is no WAV file") from None
        raise Unreadable(f"is no WAV file, or a damaged one ({reason.rstrip('.')})") from error
    if samples.dtype == np.uint8:
        return rate, (samples - 128.0) / 128
    return rate, samples / -float(np.iinfo(samples.dtype).min) if samples.dtype.kind == "i" else samples


def resampled(wave: Tensor, theirs: int, rate: int) -> Tensor:
    """(S,) -> (ceil(S * rate / theirs),). Unreadable where the two rates have hardly a divisor in common."""
    if theirs == rate:
        return wave
    from torchaudio.functional import resample

    if theirs < 1 or theirs * rate // math.gcd(theirs, rate) ** 2 > KERNEL:
        raise Unreadable(f"has {theirs:,} samples a second, which cannot be brought to {rate:,}; convert it")
    return resample(wave, theirs, rate)


def fitted(wave: Tensor, samples: int) -> Tensor:
    """(S,) -> (1, samples): cut at the end, or followed by silence."""
    return F.pad(wave[:samples], (0, max(0, samples - len(wave))))[None]
