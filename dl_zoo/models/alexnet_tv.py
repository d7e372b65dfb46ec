"""AlexNet as torchvision has it: one column, no response normalisation, narrower convolutions.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, arXiv:1404.5997, section 5 and its
footnote: the net of 2012 with one tower in place of two. The widths and the placing of dropout here are those of
`torchvision.models.alexnet`, and so are the module names, so that its state dict loads as it is (56.522 % top-1,
79.066 % top-5 on ImageNet's validation set).

    layer          output       kernel          parameters
    features.0     64 x 55x55   11x11/4, pad 2  64 * (3 * 121 + 1)         23,296
    features.2     64 x 27x27   pool 3x3/2
    features.3     192 x 27x27  5x5             192 * (64 * 25 + 1)       307,392
    features.5     192 x 13x13  pool 3x3/2
    features.6     384 x 13x13  3x3             384 * (192 * 9 + 1)       663,936
    features.8     256 x 13x13  3x3             256 * (384 * 9 + 1)       884,992
    features.10    256 x 13x13  3x3             256 * (256 * 9 + 1)       590,080
    features.12    256 x 6x6    pool 3x3/2
    classifier.1   4096                         4096 * (9216 + 1)      37,752,832
    classifier.4   4096                         4096 * (4096 + 1)      16,781,312
    classifier.6   1000                         1000 * (4096 + 1)       4,097,000
                                                                       61,100,840

Against `alexnet`: conv1 is padded, so that 224 pixels give 55x55; conv4 is narrower; dropout comes before the first
two dense layers, not after them; the initial weights are torch's defaults; and the maps are averaged to 6x6 whatever
the picture's size, which is nothing at 224.
"""

from typing import ClassVar

from torch import Tensor, nn


class AlexNetTV(nn.Module):
    """Classifier of pictures of 63 pixels and more; the paper's and torchvision's have 224.

    >>> import torch
    >>> with torch.device("meta"):
    ...     net = AlexNetTV()
    >>> sum(p.numel() for p in net.parameters())  # 2,469,696 in the convolutions + 58,631,144
    61100840
    >>> net(torch.zeros(2, 3, 224, 224, device="meta")).shape
    torch.Size([2, 1000])
    """

    heads: ClassVar[tuple[str, ...]] = ("classifier.6",)

    def __init__(self, channels: int = 3, num_classes: int = 1000, width: int = 64, dropout: float = 0.5):
        super().__init__()
        dense = 64 * width
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, width, 11, stride=4, padding=2), nn.ReLU(inplace=True)),
            nn.MaxPool2d(3, 2),  # (B, 64, 27, 27)
            *(nn.Conv2d(width, 3 * width, 5, padding=2), nn.ReLU(inplace=True)),
            nn.MaxPool2d(3, 2),  # (B, 192, 13, 13)
            *(nn.Conv2d(3 * width, 6 * width, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(6 * width, 4 * width, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(4 * width, 4 * width, 3, padding=1), nn.ReLU(inplace=True)),
            nn.MaxPool2d(3, 2),  # (B, 256, 6, 6)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            *(nn.Dropout(dropout), nn.Linear(4 * width * 6 * 6, dense), nn.ReLU(inplace=True)),
            *(nn.Dropout(dropout), nn.Linear(dense, dense), nn.ReLU(inplace=True)),
            nn.Linear(dense, num_classes) if num_classes else nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))  # (B, C, H, W) -> (B, 256, 6, 6)
        return self.classifier(x.flatten(1))  # (B, 9216) -> (B, num_classes)
