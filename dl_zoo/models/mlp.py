"""Multilayer perceptron: layers of weighted sums, a nonlinearity after each but the last.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986, Nature 323, taught it to
train. The defaults are a net whose size and score are often quoted: Hinton, Vinyals, Dean, "Distilling the Knowledge
in a Neural Network", 2015, arXiv:1503.02531, section 3: two hidden layers of 800 rectified linear units, no
regularization, 146 errors on MNIST's test set.

    h_0 = x,    h_l = f(W_l h_(l-1) + b_l) for l = 1 .. depth,    logits = V h_depth + c

The nets of 1986 have sigmoid units (`activation="sigmoid"`), in the output too; here the outputs are logits, for a
loss that has its own softmax. `depth=0` is softmax regression; `activation="linear"` shows that depth without a
nonlinearity is still one linear map.

`tied=True` gives all hidden layers after the first one and the same matrix W. That is a recurrent net which is run for
`depth` steps and gets its input at the first (1986, figure 5: each step is a layer of an equivalent layered net).

The teacher of the 2015 paper is `width=1200, dropout=0.5, input_dropout=0.2` (2,395,210 parameters, 67 errors), on
pictures jittered by up to two pixels and with bounded weights. The paper prints no dropout rates; these are those of
Hinton et al. 2012, arXiv:1207.0580, which it cites.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softsign": F.softsign,
    "linear": lambda x: x,
}


class MLP(nn.Module):
    """Classifier of flattened inputs, `depth` hidden layers of `width` units.

    `dropout` acts on every hidden layer's output, `input_dropout` on the pixels: rates of zeroed units.
    `tied` makes layers 2 .. `depth` one module, called that often and held once among the parameters.

    >>> net = MLP()
    >>> sum(p.numel() for p in net.parameters())  # 784 * 800 + 800 = 628,000; 640,800; 8,010
    1276810
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in MLP(width=100, depth=50, tied=True).parameters())  # 78,500; 10,100; 1,010
    89610
    """

    def __init__(
        self,
        in_features: int = 784,
        num_classes: int = 10,
        width: int = 800,
        depth: int = 2,
        activation: str = "relu",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        tied: bool = False,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not one of {', '.join(ACTIVATIONS)}")
        widths = [in_features] + [width] * depth
        self.activation = ACTIVATIONS[activation]
        self.input_dropout = nn.Dropout(input_dropout)
        self.dropout = nn.Dropout(dropout)
        layers = [nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths)]
        if tied:
            layers[2:] = layers[1:2] * (depth - 2)
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_dropout(x.flatten(1))  # (B, C, H, W) -> (B, C*H*W)
        for layer in self.layers:
            x = self.dropout(self.activation(layer(x)))  # (B, width)
        return self.head(x)  # (B, num_classes)
