"""Temporal convolutional network: dilated causal convolutions instead of a state.

Bai, Kolter, Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling",
2018, arXiv:1803.01271, section 3 and figure 1. A residual block at dilation d, with `*` causal and of kernel k:

    h(t) = dropout(relu(W1 * x (t) + b1))          (W * x)(t) = sum_i W_i x(t - d i),  i = 0 .. k - 1
    y(t) = relu(x(t) + dropout(relu(W2 * h (t) + b2)))

x goes through a 1x1 convolution where its width is another. Every W is g V / |V|, a length and a direction for each
output (weight normalisation, Salimans, Kingma 2016, arXiv:1602.07868). Dilations are 1, 2, 4, ...: n blocks see

    1 + 2 (k - 1) (2^n - 1)    steps, the newest included

and nothing of what lies before, which is the price of having no state. Of steps before the first they see zeros.

    config of the paper's tables            k  n  width  parameters
    adding, 600 steps (the default here)    8  8  24     70,369
    sequential MNIST                        7  8  25     66,910

Dropout leaves out whole channels of a sequence (section 3.3). Departures: the initial weights are torch's; ids can be
embedded.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

READS = ("last", "all")


class Causal(nn.Module):
    """`Conv1d` whose output at a step hangs on this step and `reach` steps before it: (B, I, T) -> (B, O, T)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int):
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.convolution = weight_norm(nn.Conv1d(inputs, outputs, kernel, dilation=dilation))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(F.pad(x, (self.reach, 0)))


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        self.first = Causal(inputs, width, kernel, dilation)
        self.second = Causal(width, width, kernel, dilation)
        self.dropout = nn.Dropout1d(dropout)
        self.shortcut = nn.Identity() if inputs == width else nn.Conv1d(inputs, width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, I, T) -> (B, W, T)
        y = self.dropout(torch.relu(self.first(x)))
        y = self.dropout(torch.relu(self.second(y)))
        return torch.relu(self.shortcut(x) + y)


class TCN(nn.Module):
    """Residual blocks over numbers (B, T, I) or ids (B, T), and a linear layer on what they say.

    Outputs (B, K), or with `read="all"` (B, T, K), one for each step. There is no state. `num_classes=0`: what the
    linear layer would take.

    `lengths` (B,) says how many steps of each sequence are no padding; None: of ids those up to the last that is not
    `pad_id`, and of numbers all. Padding changes nothing. Of an empty sequence one step of padding is read.

    Args:
        input_size: numbers a step; or `vocab_size` ids, each a vector of `embedding` numbers, or one-hot without that.
        width: channels of every block.
        depth: blocks, n.
        kernel: steps that a convolution takes together, k.
        read: "last" step, or "all".

    >>> net = TCN()
    >>> sum(p.numel() for p in net.parameters())  # 24 * (2 * 8 + 2) + 15 * 24 * (24 * 8 + 2) + 24 * 3 + 25
    70369
    >>> net(torch.randn(4, 600, 2)).shape, net.receptive_field
    (torch.Size([4, 1]), 3571)
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(
        self,
        input_size: int | None = 2,
        vocab_size: int | None = None,
        num_classes: int = 1,
        width: int = 24,
        depth: int = 8,
        kernel: int = 8,
        embedding: int | None = None,
        pad_id: int | None = None,
        read: str = "last",
        dropout: float = 0.0,
    ):
        super().__init__()
        if read not in READS:
            raise ValueError(f"read={read!r} is not one of {', '.join(READS)}")
        if (input_size is None) == (vocab_size is None):
            raise ValueError("exactly one of input_size and vocab_size must be given")
        for name, value in {"width": width, "depth": depth, "kernel": kernel}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        self.vocab_size, self.pad_id, self.read = vocab_size, pad_id, read
        self.receptive_field = 1 + 2 * (kernel - 1) * (2**depth - 1)  # steps
        self.embedding = nn.Embedding(vocab_size, embedding, pad_id) if vocab_size and embedding else None
        seen = embedding if vocab_size and embedding else vocab_size or input_size or 0
        sizes = [seen] + [width] * depth
        self.blocks = nn.Sequential(*(Block(sizes[n], width, kernel, 2**n, dropout) for n in range(depth)))
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None and self.vocab_size and self.pad_id is not None:
            lengths = (torch.arange(1, x.shape[1] + 1, device=x.device) * (x != self.pad_id)).amax(1)
        y = self.blocks(self.vectors(x).transpose(1, 2)).transpose(1, 2)  # (B, T, W)
        return self.head(y if self.read == "all" else last(y, lengths))

    def vectors(self, x: Tensor) -> Tensor:
        """(B, T, I)"""
        if self.vocab_size is None:
            return x
        if self.embedding is None:
            return F.one_hot(x, self.vocab_size).to(next(self.parameters()).dtype)
        return self.embedding(x)


def last(y: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, T, W) -> (B, W): of each sequence the last step that is no padding."""
    if lengths is None:
        return y[:, -1]
    end = lengths.to(y.device).clamp(min=1) - 1
    return y.take_along_dim(end[:, None, None], 1).squeeze(1)
