"""GoogLeNet as torchvision has it: batch norm after each convolution, and 3x3 where the paper has 5x5.

Szegedy et al., "Going Deeper with Convolutions", 2014, arXiv:1409.4842; batch norm after Ioffe, Szegedy, "Batch
Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015, arXiv:1502.03167, whose
net has two 3x3 in the third branch. Here that branch has one, which torchvision's file calls a known bug and keeps for
the sake of its weights. Module names and initial weights are torchvision's, so that its state dict loads as it is.

    conv1 7x7/2                                 9,536      4a        364,512    5b        1,347,040
    conv2 1x1                                   4,224      4b        425,232    fc        1,025,000
    conv3 3x3                                 110,976      4c        486,192              6,624,904
    3a                                        155,872      4d        573,312    aux1      3,188,968
    3b                                        340,224      4e        803,840    aux2      3,191,016
                                                           5a        978,944             13,004,888

Against `googlenet`: no biases in the convolutions but two numbers a map in each norm (epsilon 1e-3), no response
normalisation, dropout of 0.2, the last pooling is 2x2, and the auxiliary heads average to 4x4 whatever
the size of their input.

torchvision's weights (69.778 % top-1, 89.53 % top-5) are for pictures scaled to mean 0.5 and deviation 0.5 in each
channel; its own class turns the usual normalisation into that one by `transform_input`. This net has no such switch:
normalise so in the data.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Maps of 1x1, 3x3's reduction, 3x3, the second 3x3's reduction, the second 3x3, the projection after pooling.
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


class Normed(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, padding: int = 0):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(n_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """(B, n_in, H, W) -> (B, channels, H, W)."""

    def __init__(self, n_in: int, maps: tuple[int, ...]):
        super().__init__()
        one, reduced3, three, reduced5, five, projected = maps
        self.branch1 = Normed(n_in, one, 1)
        self.branch2 = nn.Sequential(Normed(n_in, reduced3, 1), Normed(reduced3, three, 3, padding=1))
        self.branch3 = nn.Sequential(Normed(n_in, reduced5, 1), Normed(reduced5, five, 3, padding=1))  # 5 in the paper
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), Normed(n_in, projected, 1))
        self.channels = one + three + five + projected

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    """Classifier of the maps in the middle: (B, n_in, H, W) -> (B, num_classes)."""

    def __init__(self, n_in: int, n_conv: int, n_dense: int, num_classes: int, dropout: float):
        super().__init__()
        self.conv = Normed(n_in, n_conv, 1)
        self.fc1 = nn.Linear(n_conv * 4 * 4, n_dense)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(n_dense, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)  # (B, 128, 4, 4) -> (B, 2048)
        return self.fc2(self.dropout(F.relu(self.fc1(x), inplace=True)))  # (B, 1024) -> (B, num_classes)


class GoogLeNetTV(nn.Module):
    """Classifier of pictures of 15 pixels and more; torchvision's have 224.

    >>> with torch.device("meta"):
    ...     net = GoogLeNetTV()
    >>> sum(p.numel() for p in net.parameters())  # 6,624,904 + 3,188,968 + 3,191,016
    13004888
    >>> net(torch.zeros(2, 3, 224, 224, device="meta")).shape
    torch.Size([2, 1000])
    """

    def __init__(
        self,
        channels: int = 3,
        num_classes: int = 1000,
        width: int = 64,
        auxiliary: bool = True,
        dropout: float = 0.2,
        auxiliary_dropout: float = 0.7,
    ):
        super().__init__()

        def scaled(n: int) -> int:
            return max(round(n * width / 64), 1)

        def inception(name: str, n_in: int) -> Inception:
            return Inception(n_in, tuple(map(scaled, TABLE[name])))

        def head(n_in: int) -> Auxiliary | None:
            return Auxiliary(n_in, scaled(128), scaled(1024), num_classes, auxiliary_dropout) if auxiliary else None

        self.conv1 = Normed(channels, width, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = Normed(width, scaled(64), 1)
        self.conv3 = Normed(scaled(64), scaled(192), 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a = inception("3a", scaled(192))
        self.inception3b = inception("3b", self.inception3a.channels)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = inception("4a", self.inception3b.channels)
        self.inception4b = inception("4b", self.inception4a.channels)
        self.inception4c = inception("4c", self.inception4b.channels)
        self.inception4d = inception("4d", self.inception4c.channels)
        self.inception4e = inception("4e", self.inception4d.channels)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a = inception("5a", self.inception4e.channels)
        self.inception5b = inception("5b", self.inception5a.channels)
        self.aux1, self.aux2 = head(self.inception4a.channels), head(self.inception4d.channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.inception5b.channels, num_classes) if num_classes else nn.Identity()
        self.heads: tuple[str, ...] = ("fc", "aux1.fc2", "aux2.fc2") if auxiliary else ("fc",)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.01)  # torchvision's, by torch instead of scipy

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
        x = self.maxpool1(self.conv1(x))  # (B, 64, 112, 112) -> (B, 64, 56, 56)
        x = self.maxpool2(self.conv3(self.conv2(x)))  # (B, 192, 56, 56) -> (B, 192, 28, 28)
        x = self.maxpool3(self.inception3b(self.inception3a(x)))  # (B, 480, 28, 28) -> (B, 480, 14, 14)
        return self.inception4a(x)

    def middle(self, x: Tensor) -> Tensor:
        """4b to 4d: (B, 512, 14, 14) -> (B, 528, 14, 14)."""
        return self.inception4d(self.inception4c(self.inception4b(x)))

    def upper(self, x: Tensor) -> Tensor:
        """From 4e on: (B, 528, 14, 14) -> (B, num_classes)."""
        x = self.maxpool4(self.inception4e(x))  # (B, 832, 7, 7)
        x = self.inception5b(self.inception5a(x)).mean((2, 3))  # (B, 1024, 7, 7) -> (B, 1024)
        return self.fc(self.dropout(x))
