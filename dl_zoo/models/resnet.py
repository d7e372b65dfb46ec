"""ResNet: layers learn what to add to their input, so that depth does no harm.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385, sections 3 and 4.1,
table 1 and figure 5.

    y = F(x) + x                                                                         (eq. 1)

with F two 3x3 convolutions (18 and 34 layers) or a bottleneck of 1x1, 3x3 and 1x1 (50 and more). Batch norm follows
every convolution and precedes the ReLU; the last ReLU of a block comes after the addition.

    stage    output    18            34            50            101           152
    conv1    112x112   7x7, 64, stride 2
             56x56     3x3 max pooling, stride 2
    layer1   56x56     2 x [3, 3]    3 x [3, 3]    3 x [1, 3, 1]  3 x           3 x         64 (bottleneck: 256 out)
    layer2   28x28     2 x           4 x           4 x            4 x           8 x         128 (512)
    layer3   14x14     2 x           6 x           6 x            23 x          36 x        256 (1024)
    layer4   7x7       2 x           3 x           3 x            3 x           3 x         512 (2048)
    fc       1x1       average pooling, dense
             total     11,689,512    21,797,672    25,557,032    44,549,160    60,192,808

Where the size changes, x is not of F's size. `shortcut` picks the paper's answer (section 4.1, "Identity vs. Projection
Shortcuts"): A subsamples x and pads it with channels of zeros, which takes no parameters; B, the default of torchvision
and of the paper's deeper nets, projects x there by a 1x1 convolution; C projects in every block. `residual=False` drops
"+ x": the plain net of the paper, with the parameters of option A.

`stride_in`: the paper halves the size in the first 1x1 convolution of a bottleneck, which then reads every fourth
pixel only ("1x1"). torchvision halves it in the 3x3 ("3x3", the default here): as many parameters, and 4.09 thousand
million multiplications a picture in place of 3.86 at 50 layers. Where a block has no 1x1, nothing differs.

Modules and initial weights are torchvision's: He, by the fan out, and norms that start as the identity. The weights
that torchvision offers for these five depths load as they are. Starting the last norm of each block at zero (Goyal et
al. 2017) is not in the paper and not done.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
SHORTCUTS = ("A", "B", "C")


class ZeroPadding(nn.Module):
    """Shortcut A: every `stride`-th pixel, channels of zeros before and after: (B, C, H, W) -> (B, C + new, ...)."""

    def __init__(self, new: int, stride: int):
        super().__init__()
        self.before, self.after, self.stride = new // 2, new - new // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Without a bias, which the mean of the batch norm behind it would take away again."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def make_shortcut(option: str, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """What brings x to the size of F(x); None where it has it."""
    changes = stride != 1 or inputs != outputs
    if option == "C" or (option == "B" and changes):
        return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
    return ZeroPadding(outputs - inputs, stride) if changes else None


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: (B, inputs, H, W) -> (B, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str, residual: bool, stride_in: str = "3x3"):
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = make_shortcut(shortcut, inputs, width, stride) if residual else None
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        return torch.relu(y)


class Bottleneck(nn.Module):
    """1x1 to fewer channels, 3x3, 1x1 to four times as many: (B, inputs, H, W) -> (B, 4 width, H / stride, ...)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str, residual: bool, stride_in: str = "3x3"):
        super().__init__()
        outputs = self.expansion * width
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = conv(inputs, width, 1, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, second)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = make_shortcut(shortcut, inputs, outputs, stride) if residual else None
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        return torch.relu(y)


def make_stage(
    block: type[BasicBlock] | type[Bottleneck],
    blocks: int,
    inputs: int,
    width: int,
    stride: int,
    shortcut: str,
    residual: bool,
    stride_in: str = "3x3",
) -> nn.Sequential:
    """Blocks of one size; the first one changes it."""
    first = block(inputs, width, stride, shortcut, residual, stride_in)
    inputs = block.expansion * width
    return nn.Sequential(first, *(block(inputs, width, 1, shortcut, residual, stride_in) for _ in range(1, blocks)))


def initialize(net: nn.Module) -> None:
    """N(0, 2 / fan_out) in every convolution (He et al. 2015, arXiv:1502.01852); the rest stays as torch has it."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class ResNet(nn.Module):
    """Classifier of pictures of any size; the paper's are 224x224. ValueError where an argument is not of its list.

    >>> net = ResNet(depth=18)
    >>> sum(p.numel() for p in net.parameters())
    11689512
    >>> net.eval()(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1000])
    """

    heads: ClassVar[tuple[str, ...]] = ("fc",)
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        depth: int = 50,
        channels: int = 3,
        num_classes: int = 1000,
        width: int = 64,
        stride_in: str = "3x3",
        shortcut: str = "B",
        residual: bool = True,
    ):
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth={depth} is not one of {', '.join(map(str, DEPTHS))}")
        if stride_in not in ("1x1", "3x3"):
            raise ValueError(f"stride_in={stride_in!r} is not one of 1x1, 3x3")
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut={shortcut!r} is not one of {', '.join(SHORTCUTS)}")
        block = BasicBlock if depth < 50 else Bottleneck
        self.conv1 = nn.Conv2d(channels, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inputs = width
        for number, blocks in enumerate(DEPTHS[depth]):
            outputs, stride = width * 2**number, 1 if number == 0 else 2
            stage = make_stage(block, blocks, inputs, outputs, stride, shortcut, residual, stride_in)
            self.add_module(f"layer{number + 1}", stage)
            inputs = block.expansion * outputs
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes) if num_classes else nn.Identity()
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))  # (B, C, H, W) -> (B, width, H/2, W/2)
        x = self.layer1(self.maxpool(x))  # H/4
        x = self.layer4(self.layer3(self.layer2(x)))  # H/8, H/16, H/32
        return self.fc(self.avgpool(x).flatten(1))  # (B, D) -> (B, num_classes)
