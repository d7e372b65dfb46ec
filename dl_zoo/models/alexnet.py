"""AlexNet as published: two groups, local response normalisation, overlapping pooling.

Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, NeurIPS,
section 3.5 and figure 2. One such net has 18.2 % top-5 error on the validation set of ILSVRC-2012; the 15.3 % that
the net is known for average seven, two of them trained on more pictures before.

    layer  output       kernel     groups  parameters
    conv1  96 x 55x55   11x11/4    1       96 * (3 * 121 + 1)            34,944
    norm1, pool1        3x3/2              96 x 27x27
    conv2  256 x 27x27  5x5        2       256 * (48 * 25 + 1)          307,456
    norm2, pool2        3x3/2              256 x 13x13
    conv3  384 x 13x13  3x3        1       384 * (256 * 9 + 1)          885,120
    conv4  384 x 13x13  3x3        2       384 * (192 * 9 + 1)          663,936
    conv5  256 x 13x13  3x3        2       256 * (192 * 9 + 1)          442,624
    pool5               3x3/2              256 x 6x6
    fc6    4096                            4096 * (9216 + 1)         37,752,832
    fc7    4096                            4096 * (4096 + 1)         16,781,312
    fc8    1000                            1000 * (4096 + 1)          4,097,000
                                                                     60,965,224

ReLU follows every layer but the last; dropout of 0.5 follows fc6 and fc7 (section 4.2). The groups are the two GPUs
of 2012: half of the maps lay on each, and conv2, conv4 and conv5 saw only their own half. `groups=1` connects
everything (62,378,344 parameters). The paper says that pictures have 224 pixels; its 55x55 maps need 227.

Local response normalisation (section 3.3) divides each unit by its neighbours' size at the same place, n = 5 maps
around map i:

    b_i = a_i / (k + alpha sum_j a_j^2)^beta,   k = 2, alpha = 1e-4, beta = 0.75

torch's layer divides alpha by n, so it is given 5e-4.

Initial weights are N(0, 0.01); biases are 1 in conv2, conv4, conv5, fc6 and fc7, which gives the rectifiers positive
inputs, and 0 elsewhere (section 5). What torchvision calls AlexNet is a net of 2014: see `alexnet_tv`.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BIASED = ("conv2", "conv4", "conv5", "fc6", "fc7")


class AlexNet(nn.Module):
    """Classifier of 227x227 pictures. The switches `lrn` and `overlapping` leave all shapes and the count as they are.

    >>> with torch.device("meta"):
    ...     net = AlexNet()
    >>> sum(p.numel() for p in net.parameters())  # 2,334,080 in the convolutions + 58,631,144
    60965224
    >>> net(torch.zeros(2, 3, 227, 227, device="meta")).shape
    torch.Size([2, 1000])
    """

    heads: ClassVar[tuple[str, ...]] = ("fc8",)

    def __init__(
        self,
        channels: int = 3,
        num_classes: int = 1000,
        width: int = 96,
        groups: int = 2,
        lrn: bool = True,
        overlapping: bool = True,
        dropout: float = 0.5,
    ):
        super().__init__()
        if width % groups:
            raise ValueError(f"width={width} does not split into groups={groups}: choose a multiple")

        def scaled(n: int) -> int:  # in proportion to width, and a multiple of groups
            return max(round(n * width / 96 / groups), 1) * groups

        w2, w3, w5, dense = scaled(256), scaled(384), scaled(256), scaled(4096)
        self.conv1 = nn.Conv2d(channels, width, 11, stride=4)
        self.conv2 = nn.Conv2d(width, w2, 5, padding=2, groups=groups)
        self.conv3 = nn.Conv2d(w2, w3, 3, padding=1)
        self.conv4 = nn.Conv2d(w3, w3, 3, padding=1, groups=groups)
        self.conv5 = nn.Conv2d(w3, w5, 3, padding=1, groups=groups)
        self.fc6 = nn.Linear(w5 * 6 * 6, dense)
        self.fc7 = nn.Linear(dense, dense)
        self.fc8 = nn.Linear(dense, num_classes) if num_classes else nn.Identity()
        self.norm1, self.norm2 = (response_norm() if lrn else nn.Identity() for _ in range(2))
        self.pool1, self.pool2, self.pool5 = (nn.MaxPool2d(3 if overlapping else 2, 2) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Section 5: N(0, 0.01), biases of 1 where the list above says so."""
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                parameter.normal_(0, 0.01)
            else:
                parameter.fill_(1.0 if name.startswith(BIASED) else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.norm1(relu(self.conv1(x))))  # (B, C, 227, 227) -> (B, 96, 55, 55) -> (B, 96, 27, 27)
        x = self.pool2(self.norm2(relu(self.conv2(x))))  # (B, 256, 27, 27) -> (B, 256, 13, 13)
        x = relu(self.conv4(relu(self.conv3(x))))  # (B, 384, 13, 13)
        x = self.pool5(relu(self.conv5(x)))  # (B, 256, 13, 13) -> (B, 256, 6, 6)
        x = self.dropout(relu(self.fc6(x.flatten(1))))  # (B, 9216) -> (B, 4096)
        x = self.dropout(relu(self.fc7(x)))  # (B, 4096)
        return self.fc8(x)  # (B, num_classes)


def relu(x: Tensor) -> Tensor:
    """In place: a layer of weighted sums needs its inputs for the gradient, not its output."""
    return F.relu(x, inplace=True)


def response_norm() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
