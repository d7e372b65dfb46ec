"""The ResNets for CIFAR-10: thin and deep, made to see what depth does to the same recipe with and without shortcuts.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385, section 4.2, table 6 and
figure 6. 6n + 2 layers:

    layer    output       what
    conv1    16 x 32x32   3x3
    layer1   16 x 32x32   n blocks of two 3x3
    layer2   32 x 16x16   n blocks, the first of stride 2
    layer3   64 x 8x8     n blocks, the first of stride 2
    fc       10           average pooling, dense

    depth    n     parameters   with shortcut B
    20       3        269,722           272,474
    32       5        464,154           466,906
    44       7        658,586           661,338
    56       9        853,018           855,770
    110      18     1,727,962         1,730,714
    1202     200   19,421,274        19,424,026

The shortcuts are those of `resnet`. Option A is the paper's choice here: it takes no parameters, so a plain net
(`residual=False`) has exactly as many as its residual twin, and what differs between them is the addition alone. The
paper does not say where the channels of zeros go; here as many before the old ones as after, as in the reproductions
whose weights are passed around, which therefore load.

The paper has He's initial weights and batch norm; like `resnet`, the variance goes by the fan out.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from dl_zoo.models.resnet import SHORTCUTS, BasicBlock, conv, initialize, make_stage


class ResNetCifar(nn.Module):
    """Classifier of small pictures; the paper's are 32x32. ValueError where depth is not 6n + 2, or no such shortcut.

    >>> net = ResNetCifar(depth=20)
    >>> sum(p.numel() for p in net.parameters())
    269722
    >>> net.eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    heads: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self,
        depth: int = 20,
        channels: int = 3,
        num_classes: int = 10,
        width: int = 16,
        shortcut: str = "A",
        residual: bool = True,
    ):
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth={depth} is not 6n + 2, such as 20, 32, 44, 56, 110")
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut={shortcut!r} is not one of {', '.join(SHORTCUTS)}")
        self.conv1 = conv(channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = make_stage(BasicBlock, blocks, width, width, 1, shortcut, residual)
        self.layer2 = make_stage(BasicBlock, blocks, width, 2 * width, 2, shortcut, residual)
        self.layer3 = make_stage(BasicBlock, blocks, 2 * width, 4 * width, 2, shortcut, residual)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes) if num_classes else nn.Identity()
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))  # (B, C, 32, 32) -> (B, 16, 32, 32)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B, 32, 16, 16) -> (B, 64, 8, 8)
        return self.fc(self.avgpool(x).flatten(1))  # (B, 64) -> (B, num_classes)
