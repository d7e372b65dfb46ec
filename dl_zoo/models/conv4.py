"""Four layers for CIFAR-10: the net in which rectifiers and tanh units were first raced, and what AlexNet added, small.

Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, NeurIPS.

- Section 3.1, figure 1: "a four-layer convolutional neural network" reaches 25 % training error on CIFAR-10 six times
  faster with ReLU than with tanh; no regularization, a learning rate chosen for each.
- Section 3.3: "a four-layer CNN" has 13 % test error on CIFAR-10 without local response normalisation, 11 % with.
- Section 3.4: overlapping pooling (windows of 3 at steps of 2) is measured on ImageNet, against windows of 2.

The paper prints no layer of this net. The sizes here are ours, after the nets for CIFAR-10 that Krizhevsky published
with his program cuda-convnet: three times 5x5 convolution and pooling, then one dense layer.

    layer   output      kernel  parameters
    conv1   32 x 32x32  5x5     32 * (3 * 25 + 1)        2,432
    pool1   32 x 16x16  3x3/2                                0
    conv2   32 x 16x16  5x5     32 * (32 * 25 + 1)      25,632
    pool2   32 x 8x8    3x3/2                                0
    conv3   64 x 8x8    5x5     64 * (32 * 25 + 1)      51,264
    pool3   64 x 4x4    3x3/2                                0
    fc      10                  10 * (64 * 16 + 1)      10,250
                                                        89,578

Also ours: every pooling takes the maximum (his second and third average), the normalisation after the first two
poolings has the constants of AlexNet, and the initial weights are those made for the nonlinearity, He's for ReLU and
Xavier's for tanh, so that neither arm of figure 1 starts with the other's.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


class Conv4(nn.Module):
    """Classifier of 32x32 pictures; `lrn` and `overlapping` leave all shapes and the count as they are.

    `dropout` acts on the inputs of the dense layer.

    >>> net = Conv4()
    >>> sum(p.numel() for p in net.parameters())  # 2,432 + 25,632 + 51,264 + 10,250
    89578
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    heads: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self,
        channels: int = 3,
        num_classes: int = 10,
        width: int = 32,
        activation: str = "relu",
        lrn: bool = False,
        overlapping: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not one of {', '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(channels, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, width, 5, padding=2)
        self.conv3 = nn.Conv2d(width, 2 * width, 5, padding=2)
        self.pool = nn.MaxPool2d(3 if overlapping else 2, 2, ceil_mode=True)  # rounded up, both give 16, 8, 4
        # torch divides alpha by the window of 5, the paper does not: its 1e-4 is 5e-4 here
        self.norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0) if lrn else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * width * 4 * 4, num_classes) if num_classes else nn.Identity()
        self.initialise(activation)

    def forward(self, x: Tensor) -> Tensor:
        # pooling first: the maximum of f is f of the maximum where f never falls, and f then has a quarter of the work
        x = self.norm(self.activation(self.pool(self.conv1(x))))  # (B, C, 32, 32) -> (B, W, 16, 16)
        x = self.norm(self.activation(self.pool(self.conv2(x))))  # (B, W, 8, 8)
        x = self.activation(self.pool(self.conv3(x)))  # (B, 2W, 4, 4)
        return self.fc(self.dropout(x.flatten(1)))  # (B, 32W) -> (B, num_classes)

    @torch.no_grad()
    def initialise(self, activation: str) -> None:
        """He's or Xavier's weights in the convolutions, AlexNet's N(0, 0.01) in the dense layer; zero biases."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif name.startswith("fc"):
                parameter.normal_(0, 0.01)  # Xavier's logits start at a deviation of 4, far from a guess
            elif activation == "relu":
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(parameter)
