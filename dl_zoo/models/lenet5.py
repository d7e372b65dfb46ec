"""LeNet-5 as it is built today: two convolutions with pooling, then three dense layers.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998, Proceedings of the
IEEE 86(11), section II-B and figure 2. The layer names are the paper's: C convolution, S subsampling, F full.

    layer   output      kernel  parameters
    C1      6 x 28x28   5x5     6 * (1 * 25 + 1)         156
    S2      6 x 14x14   2x2                                0
    C3      16 x 10x10  5x5     16 * (6 * 25 + 1)      2,416
    S4      16 x 5x5    2x2                                0
    C5      120 x 1x1   5x5     120 * (16 * 25 + 1)   48,120
    F6      84                  84 * (120 + 1)        10,164
    output  10                  10 * (84 + 1)            850

The paper's net (`lenet5_1998`, 60,000 parameters) differs in five ways, and this one is what remains when each is
replaced by what is common now:

- C3 sees all six maps; the paper's table connects each of its maps to three, four or six of them.
- S2 and S4 only pool; the paper's have a trainable coefficient and bias a map, and squash after them.
- ReLU; the paper has 1.7159 tanh(2x/3), and `activation="tanh"` comes near it.
- Max pooling; the paper sums the window, and `pooling="avg"` is that sum up to its constant.
- The output is a linear layer with softmax outside; the paper measures distances to ten fixed bitmaps.

The input is 32x32 although digits are 28x28: the corners and strokes' ends then fall in the middle of the receptive
fields of C3 (section II-B). There is no dropout in the paper; `dropout` acts after C5 and F6.
"""

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
POOLINGS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


class LeNet5(nn.Module):
    """Classifier of 32x32 pictures.

    >>> net = LeNet5()
    >>> sum(p.numel() for p in net.parameters())  # 156 + 2,416 + 48,120 + 10,164 + 850
    61706
    >>> net(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        channels: int = 1,
        num_classes: int = 10,
        activation: str = "relu",
        pooling: str = "max",
        dropout: float = 0.0,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r} is not one of {', '.join(POOLINGS)}")
        self.activation = ACTIVATIONS[activation]
        self.c1 = nn.Conv2d(channels, 6, 5)
        self.s2 = POOLINGS[pooling](2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.s4 = POOLINGS[pooling](2)
        self.c5 = nn.Conv2d(16, 120, 5)  # 5x5 on 5x5: a dense layer, called a convolution as in the paper
        self.f6 = nn.Linear(120, 84)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.s2(self.activation(self.c1(x)))  # (B, C, 32, 32) -> (B, 6, 28, 28) -> (B, 6, 14, 14)
        x = self.s4(self.activation(self.c3(x)))  # (B, 16, 10, 10) -> (B, 16, 5, 5)
        x = self.dropout(self.activation(self.c5(x)).flatten(1))  # (B, 120, 1, 1) -> (B, 120)
        x = self.dropout(self.activation(self.f6(x)))  # (B, 84)
        return self.output(x)  # (B, num_classes)
