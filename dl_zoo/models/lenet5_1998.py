"""LeNet-5 as published: a connection table in C3, trainable subsampling, scaled tanh, and distances to ten pictures.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998, Proceedings of the
IEEE 86(11), section II-B, figure 2 and table I.

    layer   output      trainable parameters                 connections
    C1      6 x 28x28   6 * (25 + 1)                    156  28 * 28 * 156           122,304
    S2      6 x 14x14   6 * 2                            12  14 * 14 * 6 * (4 + 1)     5,880
    C3      16 x 10x10  60 links * 25 + 16            1,516  10 * 10 * 1,516         151,600
    S4      16 x 5x5    16 * 2                           32  5 * 5 * 16 * (4 + 1)      2,000
    C5      120 x 1x1   120 * (16 * 25 + 1)          48,120                           48,120
    F6      84          84 * (120 + 1)               10,164                           10,164
    output  10          none, 840 fixed                   0  10 * 84                     840
                                                     60,000                          340,908

Every layer up to F6 computes weighted sums a and passes f(a) on; the output units are radial basis functions:

    f(a) = 1.7159 tanh(2a / 3)                                                           (eq. 6)
    y_i  = sum_j (x_j - w_ij)^2                                                          (eq. 7)

with w_i a picture of digit i, 7 wide and 12 high, of -1 (paper) and +1 (ink): F6 learns to draw the digit that it
reads, and a drawing of no digit is far from all ten. `forward` returns the logits -y.

The criterion (eq. 9) is y_D + log(e^-j + sum_i e^-y_i) for a digit of class D. Cross entropy of these logits is that
without e^-j, the rubbish class, which stops pushing distances up once they are large. What is lost with it: |x|^2 is
common to all y_i and |w_i|^2 is 84 for each, so softmax sees only 2 x.w_i: which picture is nearest, not how near.
Distances reach hundreds, so softmax is nearly a maximum; it trains all the same, for the gradient at x_j,
2 sum_i (p_i - t_i) w_ij, is at most 4. A switch that the paper has not: `scale` multiplies the distances, and with 0.1
Adam fits better (MNIST, 20 epochs, one seed: 0.002 % training error against 0.54 %, 1.3 % on validation against 1.4 %).

Departures: the pictures are drawn by us after figure 3, which prints no numbers. The paper trains by a stochastic
diagonal Levenberg-Marquardt method on inputs scaled to -0.1 (paper) and 1.175 (ink), so that their mean is about 0
and their variance about 1; the optimizer and the data's normalisation are chosen outside the net. For what is built
today under this name, see `lenet5`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Table I by columns: the maps of S2 that each map of C3 sees. Different inputs force the maps to different features.
C3_SOURCES = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),  # three neighbours, in a ring
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),  # four neighbours
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),  # two pairs with gaps
    (0, 1, 2, 3, 4, 5),
)

DIGITS = """
..###.. ...##.. ..####. ####### ....##. ####### ..####. ####### .#####. ..###..
.##.##. ..###.. .##..## ####### ...###. ####### .##.... ####### ##...## .##.##.
##...## .####.. ##...## .....## ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## ....##. .##.##. ##..... ##..... .....## ##...## ##...##
##...## ...##.. ....##. ...##.. .##.##. ##.###. ##.###. ....##. .##.##. ##...##
##...## ...##.. ....##. ..####. ##..##. ###.##. ###.##. ....##. ..###.. ##...##
##...## ...##.. ...##.. ....### ##..##. .....## ##...## ...##.. .##.##. .##.###
##...## ...##.. ..##... .....## ####### .....## ##...## ...##.. ##...## .###.##
##...## ...##.. .##.... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... ##...## ....##. ##...## ##...## ..##... ##...## .....##
.##.##. .###### ####### .##.##. ....##. .##.##. .##.##. ..##... ##...## ....##.
..###.. .###### ####### ..###.. ....##. ..###.. ..###.. ..##... .#####. .####..
"""


def bitmaps() -> Tensor:
    """The ten pictures as rows of -1 and +1, (10, 12 * 7)."""
    rows = [line.split() for line in DIGITS.split("\n") if line]  # 12 rows of 10 strips of 7 pixels
    return torch.tensor([[1.0 if pixel == "#" else -1.0 for row in rows for pixel in row[d]] for d in range(10)])


def squash(a: Tensor) -> Tensor:
    """f(a). f(+-1) = +-1, where it bends most: codes of +-1 lie well within its range of +-1.7159 (appendix A)."""
    return 1.7159 * torch.tanh(a * (2 / 3))


@torch.no_grad()
def spread(parameter: Tensor, fan_in: float | Tensor) -> None:
    """Uniform in +-2.4 / F, F the inputs of the unit: the sums then stay in the working range of f (appendix A)."""
    parameter.uniform_(-1, 1).mul_(2.4 / fan_in)


class Subsampling(nn.Module):
    """The sum of each 2x2 window times one coefficient a map, plus one bias a map: (B, C, 2H, 2W) -> (B, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.kernel_size = self.stride = 2
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        spread(self.weight, 4)
        spread(self.bias, 4)

    def forward(self, x: Tensor) -> Tensor:
        # the sum of the window as its mean times its size: ONNX has no average with another divisor
        mean = F.avg_pool2d(x, self.kernel_size, self.stride)
        return torch.addcmul(self.bias[:, None, None], mean, self.kernel_size**2 * self.weight[:, None, None])


class TableConv2d(nn.Module):
    """A 5x5 convolution in which each output map sees only its own `sources`: one kernel a link.

    The links' kernels are laid into a dense weight with zeros elsewhere and convolved at once. That takes a few
    multiplications by zero and is 19 times as fast as grouped convolutions over gathered maps (2 CPU threads,
    batch 128). No gradient reaches the zeros, and only links are parameters.
    """

    weight: Tensor
    index: Tensor
    fan_in: Tensor  # (L, 1, 1): the inputs of the unit that a link belongs to; an initializer reads it

    def __init__(self, in_channels: int, sources: tuple[tuple[int, ...], ...], kernel_size: int = 5):
        super().__init__()
        self.shape = (len(sources), in_channels, kernel_size, kernel_size)
        self.kernel_size, self.stride = kernel_size, 1
        links = [(o, i) for o, row in enumerate(sources) for i in row]
        inputs = torch.tensor([float(len(row) * kernel_size**2) for row in sources])
        self.weight = nn.Parameter(torch.empty(len(links), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(sources)))
        self.register_buffer("index", torch.tensor([o * in_channels + i for o, i in links]), persistent=False)
        self.register_buffer("fan_in", inputs[[o for o, _ in links], None, None], persistent=False)
        self.fan_out = len(links) / in_channels * kernel_size**2  # every map of S2 has 10 links
        spread(self.weight, self.fan_in)
        spread(self.bias, inputs)

    def forward(self, x: Tensor) -> Tensor:
        n_out, n_in, k, _ = self.shape
        dense = self.weight.new_zeros(n_out * n_in, k, k).index_copy(0, self.index, self.weight)
        return F.conv2d(x, dense.view(self.shape), self.bias, self.stride)


class DistanceToCode(nn.Module):
    """Radial basis units: minus the scaled squared distance to each row of `code`, (B, J) -> (B, K)."""

    code: Tensor

    def __init__(self, code: Tensor, scale: float):
        super().__init__()
        self.scale = scale
        self.register_buffer("code", code)

    def forward(self, x: Tensor) -> Tensor:
        return -self.scale * (x[:, None] - self.code).square().sum(2)  # (B, 1, J) - (K, J) -> (B, K)


class LeNet5Of1998(nn.Module):
    """Classifier of 32x32 pictures of digits; ten classes, because the ten output units are pictures of digits.

    >>> net = LeNet5Of1998()
    >>> sum(p.numel() for p in net.parameters())  # 156 + 12 + 1,516 + 32 + 48,120 + 10,164
    60000
    >>> net(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int = 1, num_classes: int = 10, scale: float = 1.0):
        super().__init__()
        if num_classes != 10:
            raise ValueError(
                f"lenet5_1998 reads the ten digits only, not {num_classes} classes: its output units are fixed "
                "pictures of the digits (lenet5 takes any number of classes)"
            )
        self.c1 = nn.Conv2d(channels, 6, 5)
        self.s2 = Subsampling(6)
        self.c3 = TableConv2d(6, C3_SOURCES)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = DistanceToCode(bitmaps(), scale)
        for layer in (self.c1, self.c5, self.f6):
            for parameter in layer.parameters():
                spread(parameter, layer.weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        x = squash(self.s2(squash(self.c1(x))))  # (B, C, 32, 32) -> (B, 6, 28, 28) -> (B, 6, 14, 14)
        x = squash(self.s4(squash(self.c3(x))))  # (B, 16, 10, 10) -> (B, 16, 5, 5)
        x = squash(self.c5(x)).flatten(1)  # (B, 120, 1, 1) -> (B, 120)
        return self.output(squash(self.f6(x)))  # (B, 84) -> (B, 10)
