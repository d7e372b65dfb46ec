"""What a convolution is: a matrix product, a map that moves with its input, and a dense layer with few weights.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86(11), 1998,
section II-A: local receptive fields and shared weights; if the input is shifted, the output is shifted as much and is
otherwise unchanged. With x padded by p, stride s, dilation d, in each group

    y[o, i, j] = sum over c, u, v of w[o, c, u, v] x[c, s i + d u, s j + d v]

whose windows, one a column, are a matrix (Chellapilla, Puri, Simard, "High Performance Convolutional Neural Networks
for Document Processing", IWFHR 2006, section 2). No kernel is mirrored: mathematics calls this a cross-correlation.

All is computed on whole numbers in float64, whose sums and products are exact in any order: equal means equal.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.probes.size import connections

Setting = dict[str, int]  # in, out, width, kernel, stride, padding, dilation, groups


def convolution_identities(
    task: Any,
    data: Any,
    *,
    settings: int = 100,
    mirrored: bool = False,
    padding: str = "circular",
    image_size: int | None = None,
) -> dict[str, float]:
    """Identities of torch's convolution and of the net's first one; 0 where they hold.

        product_difference   largest over `settings` draws of kernel, stride, padding, dilation and groups, of
                             |F.conv2d - product of the matrices|
        shift_difference     largest |f(shifted x) - shifted f(x)| over all shifts by one pixel, f the first convolution
                             with stride 1 and `padding`, on one item
        dense, local         weights and biases that a dense layer, or one with a kernel a place, would need between
                             the first convolution's input, `image_size` pixels wide, and its output
        shared               those that the convolution trains

    Args:
        mirrored: turn the kernels of the products by 180 degrees, as the mathematical convolution does.
        padding: zeros instead of circular breaks the second identity at the borders.
        image_size: None means the data's.
    Raises:
        UserError: no convolution over pictures, or no such padding.
    """
    if padding not in ("circular", "zeros", "reflect", "replicate"):
        raise UserError(f"padding={padding}: must be circular, zeros, reflect or replicate")
    layer = first_convolution(task.net)
    inputs, _ = next(iter(data.loader("val")))
    width = image_size or inputs.shape[-1]
    item = torch.randint(256, (1, layer.in_channels, width, width)).double()
    return {
        "product_difference": max((product_difference(drawn(), mirrored) for _ in range(settings)), default=0.0),
        "shift_difference": shift_difference(layer, item, padding),
        **counts(layer, item),
    }


def first_convolution(net: nn.Module) -> nn.Conv2d:
    """The first that the net holds. UserError: it holds none."""
    layer = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if layer is None:
        raise UserError("this net has no convolution over pictures")
    return layer


def drawn() -> Setting:
    """One setting, by torch's own generator: the picture is as wide as the dilated kernel, or up to 8 pixels wider."""

    def among(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, ()))

    kernel, stride, dilation, groups = among(1, 5), among(1, 3), among(1, 3), among(1, 4)
    return {
        "in": groups * among(1, 3),
        "out": groups * among(1, 3),
        "width": dilation * (kernel - 1) + 1 + among(0, 8),
        "kernel": kernel,
        "stride": stride,
        "padding": among(0, 3),
        "dilation": dilation,
        "groups": groups,
    }


def product_difference(setting: Setting, mirrored: bool = False) -> float:
    """Largest |F.conv2d - im2col product| of two random pictures and random kernels of whole numbers."""
    kernel, groups = setting["kernel"], setting["groups"]
    x = torch.randint(-128, 128, (2, setting["in"], setting["width"], setting["width"])).double()
    w = torch.randint(-128, 128, (setting["out"], setting["in"] // groups, kernel, kernel)).double()
    expected = F.conv2d(x, w, None, setting["stride"], setting["padding"], setting["dilation"], groups)
    return largest(im2col_product(x, w.flip(2, 3) if mirrored else w, setting) - expected)


def im2col_product(x: Tensor, weight: Tensor, setting: Setting) -> Tensor:
    """The convolution of x (B, C, W, W) with weight (O, C / g, k, k), as a product of matrices: (B, O, W', W')."""
    kernel, stride, padding, dilation, groups = (
        setting[name] for name in ("kernel", "stride", "padding", "dilation", "groups")
    )
    batch, channels, width, _ = x.shape
    padded = x.new_zeros(batch, channels, width + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + width, padding : padding + width] = x
    places = (padded.shape[-1] - dilation * (kernel - 1) - 1) // stride + 1  # W'
    taps = stride * torch.arange(places)[:, None] + dilation * torch.arange(kernel)  # (W', k)
    windows = padded[:, :, taps][..., taps]  # (B, C, W', k, W', k)
    columns = windows.permute(0, 2, 4, 1, 3, 5).reshape(batch, places**2, groups, -1)  # (B, W'W', g, C/g k k)
    matrices = weight.reshape(groups, weight.shape[0] // groups, -1)  # (g, O/g, C/g k k)
    rows = torch.einsum("bpgk,gok->bgop", columns, matrices)
    return rows.reshape(batch, weight.shape[0], places, places)


@torch.no_grad()
def shift_difference(layer: nn.Conv2d, item: Tensor, padding: str) -> float:
    """Largest |f(shifted x) - shifted f(x)|, x (1, C, H, W); what leaves the picture on one side comes in on the other.

    The layer's weights are rounded to whole numbers of 1/256 and given to a convolution of stride 1 whose output is as
    large as its input.
    """
    kernels = [int(k) for k in layer.kernel_size]
    wide = [int(d) * (k - 1) for d, k in zip(layer.dilation, kernels, strict=True)]
    left, right = [w // 2 for w in wide], [w - w // 2 for w in wide]
    weight = layer.weight.detach().cpu().double().mul(256).round()

    def convolved(x: Tensor) -> Tensor:
        mode = "constant" if padding == "zeros" else padding
        padded = F.pad(x, (left[1], right[1], left[0], right[0]), mode=mode)
        return F.conv2d(padded, weight, dilation=layer.dilation, groups=layer.groups)

    shifts = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    still = convolved(item)
    return max(largest(convolved(item.roll(by, (2, 3))) - still.roll(by, (2, 3))) for by in shifts)


def counts(layer: nn.Conv2d, item: Tensor) -> dict[str, float]:
    """Parameters of a dense layer, of one with a kernel a place, and of the convolution itself."""
    with torch.no_grad():
        layer = copy.deepcopy(layer).double()
        outputs = layer.cpu()(item).numel()
        local = connections(layer, item)
    if local is None:
        raise UserError("image_size: the first convolution has too many pairs of an input and an output to try each")
    trained = sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)
    dense = outputs * (item.numel() + (layer.bias is not None))
    return {"dense": float(dense), "local": float(sum(local.values())), "shared": float(trained)}


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())
