"""A net that tells the noise in a noisy point, given how noisy it is: what diffusion needs of a net.

Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", 2020, arXiv:2006.11239. Their net eps(x_t, t) is a
U-Net over pictures, and each of its blocks is told the step t by the Transformer's sinusoids (appendix B); here it is
a multilayer perceptron over points (B, D), which learns in seconds:

    e = silu(W_0 s(t) + b_0),    s(t) = (sin(w_i t), cos(w_i t)),    w_i = 10000^(-i / (E/2 - 1)),  i = 0 .. E/2 - 1
    h_0 = x,    h_l = silu(W_l h_(l-1) + U_l e + b_l)  for l = 1 .. depth,    eps = V h_depth + c

One net serves all steps: near t = 1 it tells which mode is nearest, near the last step little more than x itself.
Departs: no residual connection, no normalisation, no dropout.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu


class Layer(nn.Module):
    """silu(W h + U e + b): the step's embedding e (B, E) shifts every unit."""

    def __init__(self, inputs: int, width: int, embedding: int):
        super().__init__()
        self.points = nn.Linear(inputs, width)
        self.step = nn.Linear(embedding, width, bias=False)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        return silu(self.points(h) + self.step(e))


class DDPMPoints(nn.Module):
    """The noise in points (B, `features`) after steps (B,) of diffusion, 1 for the first: (B, `features`).

    Args:
        embedding: numbers that a step is told by, an even number from 4 on.

    >>> net = DDPMPoints()
    >>> sum(p.numel() for p in net.parameters())  # 1,056; 384 + 4,096; 2 * (16,512 + 4,096); 258
    47010
    >>> net(torch.zeros(5, 2), torch.full((5,), 100)).shape
    torch.Size([5, 2])
    """

    def __init__(self, features: int = 2, width: int = 128, depth: int = 3, embedding: int = 32):
        super().__init__()
        if embedding < 4 or embedding % 2:
            raise ValueError(f"embedding={embedding}: must be an even number from 4 on, sines and cosines")
        if depth < 1:
            raise ValueError(f"depth={depth}: must be at least 1")
        self.embedding = embedding
        self.embed = nn.Linear(embedding, embedding)
        widths = [features] + [width] * depth
        self.layers = nn.ModuleList(Layer(widths[i], width, embedding) for i in range(depth))
        self.head = nn.Linear(width, features)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        e = silu(self.embed(sinusoids(t, self.embedding)))  # (B, E)
        for layer in self.layers:
            x = layer(x, e)  # (B, width)
        return self.head(x)  # (B, D)


def sinusoids(t: Tensor, size: int) -> Tensor:
    """Steps (B,) as (B, `size`): sines, then cosines, of wavelengths from 2 pi to 2 pi 10,000 steps.

    >>> sinusoids(torch.tensor([0, 7]), 4)[0].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    half = size // 2
    frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=t.device))
    angles = t[:, None] * frequencies  # (B, size / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
