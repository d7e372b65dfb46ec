"""VGG: nothing but 3x3 convolutions, deeper than anything before it.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014, arXiv:1409.1556,
section 2 and table 1. Two 3x3 convolutions see 5x5 pixels and three see 7x7 (section 2.3), with fewer weights
(18 C^2 against 25 C^2, 27 C^2 against 49 C^2) and a ReLU more each.

    block    output      11 (A)   13 (B)   16 (D)   19 (E)   convolutions 3x3, padding 1
    1        112x112     64       2 x 64   2 x 64   2 x 64   each block ends with 2x2 max pooling
    2        56x56       128      2 x      2 x      2 x
    3        28x28       2 x 256  2 x      3 x      4 x
    4        14x14       2 x 512  2 x      3 x      4 x
    5        7x7         2 x 512  2 x      3 x      4 x
             dense 4096, 4096, num_classes; ReLU and dropout 0.5 after the first two

    parameters           132,863,336    133,047,848    138,357,544    143,667,240
    with batch norm      132,868,840    133,053,736    138,365,992    143,678,248
    VGGCifar               9,231,114      9,416,010     14,728,266     20,040,522

`VGG` is torchvision's module by module, so the weights that it offers load as they are. Two departures come with that:
pictures of any size are brought to 7x7 before the dense layers by adaptive average pooling (224x224 need none; the
paper makes the dense layers convolutions instead, section 3.2), and initial weights are He's by the fan out, dense ones
N(0, 0.01^2), where the paper starts deep nets from a trained shallow one. `batch_norm=True` puts a norm after every
convolution (Ioffe, Szegedy 2015, arXiv:1502.03167), which the paper could not know.

`VGGCifar` is not the paper's: what is commonly trained on 32x32 pictures. The convolutions with batch norm leave 1x1,
and one dense layer follows in place of three.
"""

from typing import ClassVar

from torch import Tensor, nn

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # a block
WIDTHS = (1, 2, 4, 8, 8)  # of the blocks, in widths of the first


def make_features(depth: int, channels: int, width: int, batch_norm: bool) -> nn.Sequential:
    """The five blocks: (B, channels, H, W) -> (B, 8 width, H // 32, W // 32). ValueError on an unknown depth."""
    if depth not in CONVOLUTIONS:
        raise ValueError(f"depth={depth} is not one of {', '.join(map(str, CONVOLUTIONS))}")
    layers: list[nn.Module] = []
    for number, factor in zip(CONVOLUTIONS[depth], WIDTHS, strict=True):
        for _ in range(number):
            layers.append(nn.Conv2d(channels, factor * width, 3, padding=1))
            channels = factor * width
            if batch_norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU())
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def initialize(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


class VGG(nn.Module):
    """Classifier of pictures of 32x32 and more; the paper's are 224x224. `width` scales the dense layers too.

    >>> import torch
    >>> net = VGG(depth=11, num_classes=10, width=4)
    >>> sum(p.numel() for p in net.parameters())  # 36,280 + (32 * 49 + 1) * 256 + 257 * 256 + 257 * 10
    506306
    >>> net.eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    heads: ClassVar[tuple[str, ...]] = ("classifier.6",)

    def __init__(
        self,
        depth: int = 16,
        channels: int = 3,
        num_classes: int = 1000,
        width: int = 64,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        dense = 64 * width  # 4096
        self.features = make_features(depth, channels, width, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(8 * width * 7 * 7, dense),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dense, dense),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dense, num_classes) if num_classes else nn.Identity(),
        )
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))  # (B, C, H, W) -> (B, 512, H // 32, W // 32) -> (B, 512, 7, 7)
        return self.classifier(x.flatten(1))  # (B, 25088) -> (B, num_classes)


class VGGCifar(nn.Module):
    """Classifier of pictures of 32x32 and more; of larger ones the last maps are averaged.

    >>> import torch
    >>> net = VGGCifar(depth=16)
    >>> sum(p.numel() for p in net.parameters())  # convolutions 14,714,688, norms 8,448, dense 5,130
    14728266
    >>> net.eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    heads: ClassVar[tuple[str, ...]] = ("classifier",)

    def __init__(self, depth: int = 16, channels: int = 3, num_classes: int = 10, width: int = 64):
        super().__init__()
        self.features = make_features(depth, channels, width, batch_norm=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8 * width, num_classes) if num_classes else nn.Identity()
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))  # (B, C, 32, 32) -> (B, 512, 1, 1)
        return self.classifier(x.flatten(1))  # (B, 512) -> (B, num_classes)
