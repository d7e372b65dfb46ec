"""A CNN that listens to the waveform itself: M5, whose first filters are as long as a cycle of a deep voice.

Dai, Dai, Qu, Li, Das, "Very Deep Convolutional Neural Networks for Raw Waveforms", 2016, arXiv:1610.00087, table 1:
sounds of 4 s at 8 kHz, no dense layer but the softmax. A convolution of 80 samples, which is 10 ms, can become a bank
of bandpass filters; all others see three of their steps. After each come batch normalization, a rectifier and a pooling
over four steps. What is left is averaged over time, so that a sound of any length will do.

    layer    output       kernel  parameters
    conv1    128 x 8000   80/4    128 * 80            10,240
    pool     128 x 2000   4
    conv2    128 x 2000   3       128 * 128 * 3       49,152
    pool     128 x 500    4
    conv3    256 x 500    3       256 * 128 * 3       98,304
    pool     256 x 125    4
    conv4    512 x 125    3       512 * 256 * 3      393,216
    pool     512 x 32     4
    norms                         2 * (128 + 128 + 256 + 512)  2,048
    fc       10                   10 * (512 + 1)       5,130
                                                     558,090, "0.5M" in the paper

The paper prints the outputs after the poolings; zeros at both ends of each convolution, and poolings that take what is
left at the end, give them. It says nothing of biases: a norm would take them away. He's weights (section 3) are torch's
to a factor, and a norm takes that away, too.

Ours: `level=True` brings each sound to the same loudness first, a mean square of 1, which the paper does not; quiet
speakers are then heard like loud ones. For digits of one second `width=32` is enough, at a sixth of the time.
"""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

FIRST = 80  # samples: 10 ms


class AudioCNN1d(nn.Module):
    """Classifier of waveforms. `width`: filters of the first two convolutions; `stride`: of the first, even.

    >>> net = AudioCNN1d()
    >>> sum(p.numel() for p in net.parameters())  # 10,240 + 49,152 + 98,304 + 393,216 + 2,048 + 5,130
    558090
    >>> net(torch.zeros(2, 1, 8000)).shape
    torch.Size([2, 10])
    """

    heads: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(self, num_classes: int = 10, width: int = 128, stride: int = 4, level: bool = False):
        super().__init__()
        self.level = level
        if not 1 <= stride <= FIRST or stride % 2:
            raise ValueError(f"stride={stride}: must be an even number from 2 to {FIRST}")
        widths = [width, width, 2 * width, 4 * width]
        first = nn.Conv1d(1, width, FIRST, stride, (FIRST - stride) // 2, bias=False)
        others = [nn.Conv1d(n, m, 3, padding=1, bias=False) for n, m in pairwise(widths)]
        self.convolutions = nn.ModuleList([first, *others])
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) for n in widths)
        self.pool = nn.MaxPool1d(4, ceil_mode=True)
        self.fc = nn.Linear(4 * width, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, S)
        if self.level:
            x = x / x.square().mean((1, 2), keepdim=True).clamp(min=1e-10).sqrt()
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            # the rectifier last: of the maximum it is the maximum of the rectified, and a quarter of the work
            x = torch.relu(self.pool(norm(convolution(x))))  # (B, W, S / stride / 4), ..., (B, 4W, S / stride / 256)
        return self.fc(x.mean(2))  # (B, 4W) -> (B, num_classes)
