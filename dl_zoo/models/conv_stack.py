"""Two 3x3 convolutions against one 5x5: the same receptive field, with a nonlinearity more and weights fewer.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014, arXiv:1409.1556,
section 2.3: a stack of two 3x3 convolutions sees 5x5, three see 7x7. From C maps to C, the weights are

    two 3x3    2 * 9 C^2 = 18 C^2      73,728 at C = 64
    one 5x5       25 C^2 = 25 C^2     102,400 at C = 64      (the ratio is 0.72)

Section 4.1 replaces each pair of net B by one 5x5 and finds 7 points more top-1 error.

    layer     output      kernel="3x3pair"   kernel="5x5"
    stem      64 x 32x32  3x3    1,792       3x3    1,792
    stage 1   64 x 32x32  3x3 twice  73,856  5x5  102,464
    pool      64 x 16x16  2x2/2              2x2/2
    stage 2   64 x 16x16  3x3 twice  73,856  5x5  102,464
    pool      64 x 8x8    2x2/2              2x2/2
    stage 3   64 x 8x8    3x3 twice  73,856  5x5  102,464
    pool      64 x 4x4    2x2/2              2x2/2
    mean      64
    fc        10             650                650
                         224,010            309,834

The net is ours, the smallest in which the two differ in nothing else: pictures of 32 pixels in place of 224, a stem so
that every stage goes from C maps to C, one width throughout, and the mean of the last maps in place of three dense
layers. The initial weights are He's, with which plain rectifier nets of this depth train without batch norm.
"""

from typing import ClassVar

from torch import Tensor, nn

KERNELS = {"3x3pair": (3, 3), "5x5": (5,)}


class ConvStack(nn.Module):
    """Classifier of pictures of 8 pixels and more; `kernel` is what each of the three stages convolves with.

    >>> import torch
    >>> net = ConvStack()
    >>> sum(p.numel() for p in net.parameters())  # 1,792 + 3 * 73,856 + 650
    224010
    >>> sum(p.numel() for p in ConvStack(kernel="5x5").parameters())  # 1,792 + 3 * 102,464 + 650
    309834
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    heads: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(self, channels: int = 3, num_classes: int = 10, width: int = 64, kernel: str = "3x3pair"):
        super().__init__()
        if kernel not in KERNELS:
            raise ValueError(f"kernel={kernel!r} is not one of {', '.join(KERNELS)}")
        self.stem = rectified(channels, width, 3)
        self.stages = nn.ModuleList(
            nn.Sequential(*(rectified(width, width, size) for size in KERNELS[kernel])) for _ in range(3)
        )
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (B, C, H, W) -> (B, width, H, W)
        for stage in self.stages:
            x = self.pool(stage(x))  # (B, width, H/2, W/2), H/4, H/8
        return self.fc(x.mean((2, 3)))  # (B, width) -> (B, num_classes)


def rectified(n_in: int, n_out: int, size: int) -> nn.Sequential:
    """A convolution that keeps the size of its maps, with He's weights and zero biases, and its ReLU."""
    conv = nn.Conv2d(n_in, n_out, size, padding=size // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.ReLU())  # not in place: hooks keep what the convolution gave
