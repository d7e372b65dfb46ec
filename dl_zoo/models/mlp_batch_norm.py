"""Batch normalisation where it was first shown: three layers of 100 sigmoid units on MNIST.

Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015,
arXiv:1502.03167, section 4.1 and figure 1. With u = W_l h_(l-1), over the B items of a batch and by unit

    mu = mean(u),    sigma^2 = mean((u - mu)^2),    h_l = f(gamma (u - mu) / sqrt(sigma^2 + eps) + beta)     (alg. 1)

before the nonlinearity and in place of a bias (section 3.2). In evaluation mu and sigma^2 are running means of those of
training. The weights begin as small Gaussian numbers, of deviation `std`; the paper does not say how small. That the
norm helps by steadying what a layer sees is the paper's explanation, and contested: Santurkar, Tsipras, Ilyas, Madry,
"How Does Batch Normalization Help Optimization?", 2018, arXiv:1805.11604, find a smoother loss instead.
"""

from itertools import pairwise

from torch import Tensor, nn

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


class MLPBatchNorm(nn.Module):
    """Classifier of flattened inputs; `batch_norm=False`: biases in place of norms, the net it is compared with.

    >>> import torch
    >>> net = MLPBatchNorm()
    >>> sum(p.numel() for p in net.parameters())  # 78,400 + 200; 10,000 + 200 twice; 1,010
    100010
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in MLPBatchNorm(batch_norm=False).parameters())
    99710
    """

    def __init__(
        self,
        in_features: int = 784,
        num_classes: int = 10,
        width: int = 100,
        depth: int = 3,
        activation: str = "sigmoid",
        batch_norm: bool = True,
        std: float = 0.1,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not one of {', '.join(ACTIVATIONS)}")
        layers: list[nn.Module] = [nn.Flatten()]  # (B, C, H, W) -> (B, C*H*W)
        for n_in, n_out in pairwise([in_features] + [width] * depth):
            norm = [nn.BatchNorm1d(n_out)] if batch_norm else []
            layers += [nn.Linear(n_in, n_out, bias=not batch_norm), *norm, ACTIVATIONS[activation]()]  # (B, width)
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width if depth else in_features, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # (B, num_classes)
