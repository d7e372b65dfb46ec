"""DCGAN: adversarial nets of convolutions that train.

Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
2015, arXiv:1511.06434, section 3: no pooling but strided and fractionally strided (transposed) convolutions, batch norm
in both nets, no hidden dense layers, ReLU in the generator and tanh at its end, leaky ReLU in the discriminator.

    generator                               output         discriminator                  output
    noise                                   100 x 1x1      picture                        3 x 64x64
    convT 4x4, norm, ReLU                   512 x 4x4      conv 4x4/2, leaky              64 x 32x32
    convT 4x4/2, norm, ReLU                 256 x 8x8      conv 4x4/2, norm, leaky        128 x 16x16
    convT 4x4/2, norm, ReLU                 128 x 16x16    conv 4x4/2, norm, leaky        256 x 8x8
    convT 4x4/2, norm, ReLU                 64 x 32x32     conv 4x4/2, norm, leaky        512 x 4x4
    convT 4x4/2, tanh                       3 x 64x64      conv 4x4                       1
                                            3,576,704                                     2,765,568

This is the net of the widely used PyTorch example. The paper's figure 1 has twice the maps (1024, 512, 256, 128) and
5x5 kernels, about 18.9 million parameters; no table of the discriminator is printed. `width` sets the 64. For 32 pixels
one stage is left out of both nets, the widest one.

Weights are N(0, 0.02), norms' scales N(1, 0.02), section 4 and the authors' code; the slope of the leaky ReLU is 0.2;
no layer but the norms has a bias. The noise that tasks hand in is normal, where the paper's is uniform in -1..1.

Switches for what each of the paper's ingredients does: `batch_norm=False` (the convolutions then have biases);
`generator_activation="leaky_relu"`; `discriminator_activation="relu"`; `strided=False`, nearest upsampling and max
pooling around 3x3 convolutions instead.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

LEAK = 0.2
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "leaky_relu": partial(nn.LeakyReLU, LEAK)}
START = 4  # pixels of the smallest maps
STD = 0.02


def up(n_in: int, n_out: int, strided: bool, bias: bool) -> list[nn.Module]:
    """(B, n_in, H, W) -> (B, n_out, 2H, 2W)."""
    if strided:
        return [nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1, bias=bias)]
    return [nn.Upsample(scale_factor=2), nn.Conv2d(n_in, n_out, 3, padding=1, bias=bias)]


def down(n_in: int, n_out: int, strided: bool, bias: bool) -> list[nn.Module]:
    """(B, n_in, H, W) -> (B, n_out, H/2, W/2)."""
    if strided:
        return [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1, bias=bias)]
    return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=bias), nn.MaxPool2d(2)]


def initialize(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, STD)
            nn.init.zeros_(layer.bias)


class DCGAN(nn.Module):
    """Pictures in -1..1 of `image_size` pixels, 8 times a power of two.

    >>> import torch
    >>> net = DCGAN()
    >>> [sum(p.numel() for p in each.parameters()) for each in (net.generator, net.discriminator)]
    [3576704, 2765568]
    >>> net.generator(torch.zeros(2, 100)).shape, net(torch.zeros(2, 100)).shape
    (torch.Size([2, 3, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        channels: int = 3,
        image_size: int = 64,
        noise: int = 100,
        width: int = 64,
        batch_norm: bool = True,
        strided: bool = True,
        generator_activation: str = "relu",
        discriminator_activation: str = "leaky_relu",
    ):
        super().__init__()
        for key, name in (("generator", generator_activation), ("discriminator", discriminator_activation)):
            if name not in ACTIVATIONS:
                raise ValueError(f"{key}_activation={name!r} is not one of {', '.join(ACTIVATIONS)}")
        doublings = (image_size // START).bit_length() - 1
        if image_size != START * 2**doublings or doublings < 1:
            raise ValueError(f"image_size={image_size}: the net doubles 4 pixels to 8, 16, 32, 64 and so on")
        self.noise = noise
        widths = [width * 2**stage for stage in range(doublings)]  # from the picture inwards
        self.generator = make_generator(noise, channels, widths, batch_norm, strided, generator_activation)
        self.discriminator = make_discriminator(channels, widths, batch_norm, strided, discriminator_activation)
        initialize(self)

    def forward(self, z: Tensor) -> Tensor:
        """The discriminator's logits (B,) of what the generator makes of noise (B, noise)."""
        return self.discriminator(self.generator(z))


def make_generator(
    noise: int, channels: int, widths: list[int], batch_norm: bool, strided: bool, activation: str
) -> nn.Sequential:
    """(B, noise) -> (B, channels, H, H) in -1..1."""
    first = nn.ConvTranspose2d(noise, widths[-1], START, bias=not batch_norm)
    layers: list[nn.Module] = [nn.Unflatten(1, (noise, 1, 1)), first]  # (B, noise, 1, 1) -> (B, widest, 4, 4)
    for n_in, n_out in zip(widths[::-1], [*widths[-2::-1], channels], strict=True):
        layers += [nn.BatchNorm2d(n_in)] if batch_norm else []
        layers += [ACTIVATIONS[activation](), *up(n_in, n_out, strided, not batch_norm)]
    return nn.Sequential(*layers, nn.Tanh())


def make_discriminator(
    channels: int, widths: list[int], batch_norm: bool, strided: bool, activation: str
) -> nn.Sequential:
    """(B, channels, H, H) -> logits (B,). No norm on the first maps: the sums there tell the colours (section 3)."""
    layers: list[nn.Module] = []
    for stage, (n_in, n_out) in enumerate(zip([channels, *widths], widths, strict=False)):
        layers += down(n_in, n_out, strided, not batch_norm)
        layers += [nn.BatchNorm2d(n_out)] if batch_norm and stage else []
        layers += [ACTIVATIONS[activation]()]
    last = nn.Conv2d(widths[-1], 1, START, bias=not batch_norm)  # (B, widest, 4, 4) -> (B, 1, 1, 1)
    return nn.Sequential(*layers, last, nn.Flatten(0))
