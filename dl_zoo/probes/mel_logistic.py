"""What the mean spectrum of a sound says about its class: a floor for nets that hear its course in time.

Davis, Mermelstein, "Comparison of Parametric Representations for Monosyllabic Word Recognition in Continuously Spoken
Sentences", 1980, IEEE TASSP 28(4): mel bands and their logarithms. The cosine transform that makes cepstral
coefficients (MFCC) of them is left out: it is a linear map, which a linear classifier can do by itself.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.errors import UserError

WINDOW, HOP = 0.025, 0.010  # seconds
FAINTEST = 1e-10  # power; windows in which no band is louder are silence, and do not count


def mel_logistic(task: Any, data: Any, *, bands: int = 40, strength: float = 1.0) -> dict[str, float]:
    """`mel_logistic`: test accuracy of logistic regression on the logarithms of `bands` mel bands, averaged over time.

    Fitted to the training split, each band brought to mean 0 and deviation 1. The net has no part in it.

    Args:
        strength: of the penalty strength / 2 |W|^2 beside the sum of cross entropies.
    Raises:
        UserError: data that are no sounds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if strength <= 0 or bands < 1:
        raise UserError(f"probe.mel_logistic: strength={strength} and bands={bands} must be above 0")
    if not data.dims.get("sample_rate"):
        raise UserError("probe=mel_logistic hears sounds, and these data have none; take data=spoken_digits or tones")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / strength, max_iter=1000))
    model.fit(*features(data, "train", bands))
    return {"mel_logistic": float(model.score(*features(data, "test", bands)))}


def features(data: Any, split: str, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, bands), and the classes (N,)."""
    from torchaudio.transforms import MelSpectrogram

    rate = int(data.dims["sample_rate"])
    length = round(WINDOW * rate)
    size = 1 << (length - 1).bit_length()
    mel = MelSpectrogram(rate, size, length, round(HOP * rate), n_mels=bands)
    pairs = [(averaged(mel(inputs.cpu())[:, 0]), targets.cpu()) for inputs, targets in data.loader(split)]
    return tuple(torch.cat(each).numpy() for each in zip(*pairs, strict=True))  # type: ignore[return-value]


def averaged(power: Tensor) -> Tensor:
    """(B, bands, T) -> (B, bands): the mean logarithm over the windows that hold a sound."""
    heard = (power.amax(1, keepdim=True) > FAINTEST).float()  # (B, 1, T)
    return (power.clamp(min=FAINTEST).log() * heard).sum(2) / heard.sum(2).clamp(min=1)
