"""A CNN that looks at what a sound looks like: its log-mel spectrogram, as a picture of time and pitch.

Hershey et al., "CNN Architectures for Large-Scale Audio Classification", 2017, arXiv:1609.09430, section 3.1: windows
of 25 ms every 10 ms, their Fourier transforms gathered in mel bands, logarithms; and then a net made for pictures.

The front end has no parameters and lies in the net, so that whoever has the weights needs nothing else to use them:

    P = |STFT(x)|^2 M,    d = 10 log10 P,    y = max(0, 1 + (d - max d) / 80)

`torchaudio` gives the transform and the filters M (frequencies, bands). Decibels are counted from the loudest cell of
each recording (the paper takes log(P + 0.01)): a recording at twice the gain is the same picture, 80 dB below is
silence, and so are the zeros that fill a recording up.

The paper's nets (AlexNet, VGG, Inception, ResNet-50) are made for millions of clips. This one is small, in the manner
of VGG, its sizes ours: each block is a 3x3 convolution, batch normalization, a rectifier and a pooling of 2x2. What is
left is averaged over time alone, since a cell's pitch says more than its time.

    layer    output           parameters (1 s at 8 kHz, width 16)
    mel      1 x 101 x 40
    block1   16 x 50 x 20     16 * 9 + 2 * 16             176
    block2   32 x 25 x 10     32 * 16 * 9 + 2 * 32      4,672
    block3   64 x 12 x 5      64 * 32 * 9 + 2 * 64     18,560
    fc       10               10 * (64 * 5 + 1)         3,210
                                                       26,618
"""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks, spectrogram

WINDOW, HOP = 0.025, 0.010  # seconds
RANGE = 80.0  # decibels
BLOCKS = 3


class LogMel(nn.Module):
    """(B, 1, S) -> (B, 1, T, bands) in 0..1, T = S // hop + 1; no parameters, and nothing in the state dict."""

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, bands: int):
        super().__init__()
        self.length, self.hop = round(WINDOW * sample_rate), round(HOP * sample_rate)
        self.size = 1 << (self.length - 1).bit_length()  # of the transform: the next power of two
        self.register_buffer("window", torch.hann_window(self.length), persistent=False)
        with torch.device("cpu"):  # it looks whether a filter is empty, which `meta` cannot tell
            filters = melscale_fbanks(self.size // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate)
        self.register_buffer("filters", filters.to(self.window.device), persistent=False)  # (size / 2 + 1, bands)

    def forward(self, x: Tensor) -> Tensor:
        power = spectrogram(x, 0, self.window, self.size, self.hop, self.length, 2.0, False)  # (B, 1, size / 2 + 1, T)
        decibels = 10 * (power.transpose(2, 3) @ self.filters).clamp(min=1e-10).log10()  # (B, 1, T, bands)
        return (1 + (decibels - decibels.amax((1, 2, 3), keepdim=True)) / RANGE).clamp(min=0)


class AudioCNN(nn.Module):
    """Classifier of waveforms, by their spectrograms. `width`: filters of the first block, doubled in each.

    >>> net = AudioCNN()
    >>> sum(p.numel() for p in net.parameters())  # 176 + 4,672 + 18,560 + 3,210
    26618
    >>> net(torch.zeros(2, 1, 8000)).shape
    torch.Size([2, 10])
    """

    heads: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self, sample_rate: int = 8000, num_classes: int = 10, width: int = 16, bands: int = 40, dropout: float = 0.0
    ):
        super().__init__()
        self.mel = LogMel(sample_rate, bands)
        widths = [1, *(width << n for n in range(BLOCKS))]
        self.blocks = nn.Sequential(*(block(n, m) for n, m in pairwise(widths)))
        self.dropout = nn.Dropout(dropout)
        features = widths[-1] * (bands >> BLOCKS)
        self.fc = nn.Linear(features, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, S)
        x = self.blocks(self.mel(x))  # (B, 1, T, bands) -> (B, 4W, T / 8, bands / 8)
        return self.fc(self.dropout(x.mean(2).flatten(1)))  # (B, 4W * bands / 8) -> (B, num_classes)


def block(width_in: int, width: int) -> nn.Sequential:
    convolution = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
    # the rectifier last: of the maximum it is the maximum of the rectified, and a quarter of the work
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.ReLU())
