"""GoogLeNet as published: Inception modules with true 5x5 branches, response normalisation, no batch norm.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich, "Going Deeper with Convolutions", 2014,
arXiv:1409.4842, table 1 and figures 2 and 3. 6.67 % top-5 error in ILSVRC-2014 is of seven nets and 144 crops.

An Inception module looks at its input at four scales and concatenates what they see (figure 2b):

    1x1     1x1 -> 3x3     1x1 -> 5x5     max pool 3x3 -> 1x1

The 1x1 convolutions before the others reduce the number of maps. `bottleneck=False` is the naive module of figure 2a,
without them and without the one after the pooling, so that all maps of the input go on into the output and each
module is wider than the one before: 3a has 387,072 weights in place of 163,328.

    layer         output       1x1   3x3r  3x3   5x5r  5x5   pool   parameters
    conv1 7x7/2   64 x 112x112                                           9,472
    pool 3x3/2    64 x 56x56, then norm1
    conv2 1x1     64 x 56x56                                             4,160
    conv3 3x3     192 x 56x56, then norm2                              110,784
    pool 3x3/2    192 x 28x28
    3a            256 x 28x28   64    96   128    16    32    32       163,696
    3b            480 x 28x28  128   128   192    32    96    64       388,736
    pool 3x3/2    480 x 14x14
    4a            512 x 14x14  192    96   208    16    48    64       376,176
    4b            512 x 14x14  160   112   224    24    64    64       449,160
    4c            512 x 14x14  128   128   256    24    64    64       510,104
    4d            528 x 14x14  112   144   288    32    64    64       605,376
    4e            832 x 14x14  256   160   320    32   128   128       868,352
    pool 3x3/2    832 x 7x7
    5a            832 x 7x7    256   160   320    32   128   128     1,043,456
    5b            1024 x 7x7   384   192   384    48   128   128     1,444,080
    mean          1024, then dropout of 0.4
    fc            1000                                               1,025,000
                                                                     6,998,552

Two auxiliary heads on 4a and 4d bring the gradient in lower down; in training their losses are added with weight 0.3,
and afterwards they are left out (section 5). Each is a mean over 5x5 at steps of 3 (4x4 places), 128 1x1 convolutions,
1024 dense units, dropout of 0.7, and the classes: 3,188,840 and 3,190,888 parameters, 13,378,280 in all.

ReLU follows every convolution and the heads' first dense layer. Poolings round up, or the maps would not be
112, 56, 28, 14, 7.

What the paper does not say, and what is here: the constants of the normalisation are those of BVLC's GoogLeNet for
Caffe (n = 5, alpha = 1e-4 over n, beta = 0.75, k = 1); initial weights are He's in the convolutions and hidden layers,
N(0, 0.01) in the last ones. Ours is `stem="cifar"`: 3x3 at steps of 1 in conv1 and no pooling until 3b, for 32 pixels;
4a then has 16x16, on which the auxiliary heads have their 4x4 places too. For torchvision's net see `googlenet_tv`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Table 1, in the order of the head above.
TABLE = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
STEMS = ("imagenet", "cifar")


class Inception(nn.Module):
    """(B, n_in, H, W) -> (B, channels, H, W); `maps` is a row of the table."""

    def __init__(self, n_in: int, maps: tuple[int, ...], bottleneck: bool):
        super().__init__()
        one, reduced3, three, reduced5, five, projected = maps
        self.conv1x1 = nn.Conv2d(n_in, one, 1)
        self.reduce3x3 = nn.Conv2d(n_in, reduced3, 1) if bottleneck else None
        self.conv3x3 = nn.Conv2d(reduced3 if bottleneck else n_in, three, 3, padding=1)
        self.reduce5x5 = nn.Conv2d(n_in, reduced5, 1) if bottleneck else None
        self.conv5x5 = nn.Conv2d(reduced5 if bottleneck else n_in, five, 5, padding=2)
        self.pool = nn.MaxPool2d(3, 1, padding=1)
        self.project = nn.Conv2d(n_in, projected, 1) if bottleneck else None
        self.channels = one + three + five + (projected if bottleneck else n_in)

    def forward(self, x: Tensor) -> Tensor:
        three = x if self.reduce3x3 is None else relu(self.reduce3x3(x))
        five = x if self.reduce5x5 is None else relu(self.reduce5x5(x))
        pooled = self.pool(x) if self.project is None else relu(self.project(self.pool(x)))
        return torch.cat([relu(self.conv1x1(x)), relu(self.conv3x3(three)), relu(self.conv5x5(five)), pooled], 1)


class Auxiliary(nn.Module):
    """Classifier of the maps in the middle: (B, n_in, 14, 14) -> (B, num_classes).

    Maps of another size, of which the paper's pooling does not leave 4x4, are averaged to that.
    """

    def __init__(self, n_in: int, n_conv: int, n_dense: int, num_classes: int, dropout: float):
        super().__init__()
        self.pool = nn.AvgPool2d(5, 3)
        self.conv = nn.Conv2d(n_in, n_conv, 1)
        self.fc1 = nn.Linear(n_conv * 4 * 4, n_dense)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(n_dense, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        fits = min(x.shape[-2:]) >= 14 and max(x.shape[-2:]) <= 16
        pooled = self.pool(x) if fits else F.adaptive_avg_pool2d(x, 4)  # (B, n_in, 4, 4)
        x = relu(self.conv(pooled)).flatten(1)  # (B, 128, 4, 4) -> (B, 2048)
        return self.fc2(self.dropout(relu(self.fc1(x))))  # (B, 1024) -> (B, num_classes)


class GoogLeNet(nn.Module):
    """Classifier of 224x224 pictures (of 32x32 with `stem="cifar"`); without auxiliary heads, of other sizes too.

    >>> with torch.device("meta"):
    ...     net = GoogLeNet()
    >>> sum(p.numel() for p in net.parameters())  # 6,998,552 + 3,188,840 + 3,190,888
    13378280
    >>> net(torch.zeros(2, 3, 224, 224, device="meta")).shape
    torch.Size([2, 1000])
    >>> small = GoogLeNet(num_classes=10, width=16, auxiliary=False, stem="cifar")
    >>> sum(p.numel() for p in small.parameters())
    377126
    """

    def __init__(
        self,
        channels: int = 3,
        num_classes: int = 1000,
        width: int = 64,
        auxiliary: bool = True,
        bottleneck: bool = True,
        lrn: bool = True,
        dropout: float = 0.4,
        auxiliary_dropout: float = 0.7,
        stem: str = "imagenet",
    ):
        super().__init__()
        if stem not in STEMS:
            raise ValueError(f"stem={stem!r} is not one of {', '.join(STEMS)}")

        def scaled(n: int) -> int:
            return max(round(n * width / 64), 1)

        def inception(name: str, n_in: int) -> Inception:
            return Inception(n_in, tuple(map(scaled, TABLE[name])), bottleneck)

        def head(n_in: int) -> Auxiliary | None:
            return Auxiliary(n_in, scaled(128), scaled(1024), num_classes, auxiliary_dropout) if auxiliary else None

        large = stem == "imagenet"
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3) if large else nn.Conv2d(channels, width, 3, padding=1)
        self.pool1, self.pool2 = (pooling() if large else nn.Identity() for _ in range(2))
        self.norm1, self.norm2 = (response_norm() if lrn else nn.Identity() for _ in range(2))
        self.conv2 = nn.Conv2d(width, scaled(64), 1)
        self.conv3 = nn.Conv2d(scaled(64), scaled(192), 3, padding=1)
        self.inception3a = inception("3a", scaled(192))
        self.inception3b = inception("3b", self.inception3a.channels)
        self.pool3 = pooling()
        self.inception4a = inception("4a", self.inception3b.channels)
        self.inception4b = inception("4b", self.inception4a.channels)
        self.inception4c = inception("4c", self.inception4b.channels)
        self.inception4d = inception("4d", self.inception4c.channels)
        self.inception4e = inception("4e", self.inception4d.channels)
        self.pool4 = pooling()
        self.inception5a = inception("5a", self.inception4e.channels)
        self.inception5b = inception("5b", self.inception5a.channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.inception5b.channels, num_classes) if num_classes else nn.Identity()
        self.aux1, self.aux2 = head(self.inception4a.channels), head(self.inception4d.channels)
        self.heads: tuple[str, ...] = ("fc", "aux1.fc2", "aux2.fc2") if auxiliary else ("fc",)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """He's weights, which suit rectifiers without batch norm, but small ones before a softmax; zero biases."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif name.removesuffix(".weight") in self.heads:
                parameter.normal_(0, 0.01)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(self.middle(self.lower(x)))

    def with_auxiliary(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The logits and those of the auxiliary heads, lower one first, () where they are off; one pass for all."""
        low = self.lower(x)
        middle = self.middle(low)
        return self.upper(middle), self.side(low, middle)

    def auxiliary_logits(self, x: Tensor) -> tuple[Tensor, ...]:
        low = self.lower(x)
        return self.side(low, self.middle(low))

    def side(self, low: Tensor, middle: Tensor) -> tuple[Tensor, ...]:
        return () if self.aux1 is None or self.aux2 is None else (self.aux1(low), self.aux2(middle))

    def lower(self, x: Tensor) -> Tensor:
        """Up to 4a: (B, C, 224, 224) -> (B, 512, 14, 14)."""
        x = self.norm1(self.pool1(relu(self.conv1(x))))  # (B, 64, 112, 112) -> (B, 64, 56, 56)
        x = self.pool2(self.norm2(relu(self.conv3(relu(self.conv2(x))))))  # (B, 192, 56, 56) -> (B, 192, 28, 28)
        x = self.pool3(self.inception3b(self.inception3a(x)))  # (B, 480, 28, 28) -> (B, 480, 14, 14)
        return self.inception4a(x)

    def middle(self, x: Tensor) -> Tensor:
        """4b to 4d: (B, 512, 14, 14) -> (B, 528, 14, 14)."""
        return self.inception4d(self.inception4c(self.inception4b(x)))

    def upper(self, x: Tensor) -> Tensor:
        """From 4e on: (B, 528, 14, 14) -> (B, num_classes)."""
        x = self.pool4(self.inception4e(x))  # (B, 832, 7, 7)
        x = self.inception5b(self.inception5a(x)).mean((2, 3))  # (B, 1024, 7, 7) -> (B, 1024)
        return self.fc(self.dropout(x))


def relu(x: Tensor) -> Tensor:
    """In place: a layer of weighted sums needs its inputs for the gradient, not its output."""
    return F.relu(x, inplace=True)


def pooling() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def response_norm() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
