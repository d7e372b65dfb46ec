"""C3D: convolution in time as well as in space, with 3x3x3 kernels throughout.

Tran, Bourdev, Fergus, Torresani, Paluri, "Learning Spatiotemporal Features with 3D Convolutional Networks", 2015,
arXiv:1412.0767, section 3.2 and figure 3: eight convolutions, five poolings, two dense layers and the output. The first
pooling leaves time alone, "to not merge the temporal signal too early"; all others halve it.

A clip of 16 frames of 112x112 pixels, 101 classes (UCF-101):

    layer            output             kernel     parameters
    conv1a           64 x 16x112x112    3x3x3      64 * (27 * 3 + 1)              5,248
    pool1            64 x 16x56x56      1x2x2                                         0
    conv2a          128 x 16x56x56      3x3x3      128 * (27 * 64 + 1)          221,312
    pool2           128 x 8x28x28       2x2x2                                         0
    conv3a          256 x 8x28x28       3x3x3      256 * (27 * 128 + 1)         884,992
    conv3b          256 x 8x28x28       3x3x3      256 * (27 * 256 + 1)       1,769,728
    pool3           256 x 4x14x14       2x2x2                                         0
    conv4a          512 x 4x14x14       3x3x3      512 * (27 * 256 + 1)       3,539,456
    conv4b          512 x 4x14x14       3x3x3      512 * (27 * 512 + 1)       7,078,400
    pool4           512 x 2x7x7         2x2x2                                         0
    conv5a          512 x 2x7x7         3x3x3      512 * (27 * 512 + 1)       7,078,400
    conv5b          512 x 2x7x7         3x3x3      512 * (27 * 512 + 1)       7,078,400
    pool5           512 x 1x4x4         2x2x2                                         0
    fc6            4096                            4096 * (512 * 16 + 1)     33,558,528
    fc7            4096                            4096 * (4096 + 1)         16,781,312
    fc8             101                            101 * (4096 + 1)             413,797
                                                                             78,409,573

The paper does not say how 7 pixels are halved: its program, on Caffe, rounds up, and so does this net. Its Sports-1M
net has 487 classes. The initial weights are He's, for rectifiers: of torch's, eight layers leave little of a signal.

Smaller clips go through the same layers, as far as there is something to halve. `one_frame=True` makes the twin that
sees no motion: of each clip the middle frame alone, and all kernels and poolings are 1 in time. In space it is the same
net, layer by layer, so what the two differ by is time.
"""

from collections import OrderedDict
from typing import ClassVar

import torch
from torch import Tensor, nn

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # convolutions and their maps, in units of the first one's


class C3D(nn.Module):
    """Classifier of clips (B, C, T, H, W), all T and H = W as large as the arguments say.

    Args:
        width: maps of the first convolution.
        hidden: units of fc6 and of fc7.
        frames, image_size: of a clip.
        one_frame: see above.
        dropout: on the outputs of fc6 and fc7.

    >>> net = C3D(channels=1, num_classes=4, width=8, hidden=64, frames=8, image_size=16)
    >>> sum(p.numel() for p in net.parameters())  # 432,560 of the convolutions + 4,160 + 4,160 + 260
    441140
    >>> net(torch.zeros(2, 1, 8, 16, 16)).shape
    torch.Size([2, 4])
    """

    heads: ClassVar[tuple[str, ...]] = ("fc8",)

    def __init__(
        self,
        channels: int = 3,
        num_classes: int = 101,
        width: int = 64,
        hidden: int = 4096,
        frames: int = 16,
        image_size: int = 112,
        one_frame: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.shape, self.one_frame = (frames, image_size, image_size), one_frame
        time = 1 if one_frame else 3
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for stage, maps in enumerate(STAGES, 1):
            for letter, multiple in zip("ab", maps, strict=False):
                kernel, padding = (time, 3, 3), (time // 2, 1, 1)
                layers[f"conv{stage}{letter}"] = nn.Conv3d(channels, multiple * width, kernel, padding=padding)
                layers[f"relu{stage}{letter}"] = nn.ReLU()
                channels = multiple * width
            halved = 1 if one_frame or stage == 1 else 2
            layers[f"pool{stage}"] = nn.MaxPool3d((halved, 2, 2), ceil_mode=True)
        self.features = nn.Sequential(layers)
        left = -(-image_size // 32)  # pixels, halved five times and rounded up
        self.fc6 = nn.Linear(channels * (1 if one_frame else -(-frames // 16)) * left**2, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, num_classes) if num_classes else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != self.shape:  # another size may leave as many numbers for fc6
            raise ValueError(f"clips of {tuple(x.shape[2:])}: this net takes {self.shape}, frames x height x width")
        if self.one_frame:
            x = x[:, :, x.shape[2] // 2 :][:, :, :1]  # (B, C, 1, H, W)
        x = self.features(x).flatten(1)  # (B, 8W, T/16, H/32, W/32), all rounded up -> (B, F)
        x = self.dropout(torch.relu(self.fc6(x)))  # (B, hidden)
        x = self.dropout(torch.relu(self.fc7(x)))
        return self.fc8(x)  # (B, num_classes)
