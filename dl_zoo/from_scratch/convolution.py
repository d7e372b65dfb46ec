"""Convolution as one product of matrices, and pooling, forwards and backwards.

What nets call convolution is a cross-correlation: the kernel is not turned round. With K x K taps, C channels in and O
out,

    y[n, o, i, j] = b[o] + sum over c, u, v of w[o, c, u, v] x[n, c, i s + u, j s + v]

`im2col` lays the C K K numbers that each output looks at into a column, so that all sums become W (O, C K K) times
columns (C K K, H' W') for each picture (Chellapilla, Puri, Simard, "High Performance Convolutional Neural Networks for
Document Processing", 2006). Going back, W' = sum_n Y' columns^T, columns' = W^T Y', and `col2im` adds up what a pixel
got.

Letters: N pictures, C, O channels, H, W pixels, K taps a side, s stride, H' = (H - K) // s + 1. Padding is of zeros.
"""

import torch
from torch import Tensor


def padded(x: Tensor, padding: int) -> Tensor:
    """(N, C, H, W) -> (N, C, H + 2 padding, W + 2 padding), zeros around."""
    n, c, h, w = x.shape
    wide = x.new_zeros(n, c, h + 2 * padding, w + 2 * padding)
    wide[:, :, padding : padding + h, padding : padding + w] = x
    return wide


def im2col(x: Tensor, k: int, stride: int = 1) -> Tensor:
    """(N, C, H, W) -> (N, C K K, H' W').

    >>> im2col(torch.arange(9.0).reshape(1, 1, 3, 3), 2)[0, :, 0]  # what the first output looks at
    tensor([0., 1., 3., 4.])
    """
    n, c, h, w = x.shape
    high, wide = (h - k) // stride + 1, (w - k) // stride + 1
    columns = x.new_empty(n, c, k, k, high, wide)
    for u in range(k):
        for v in range(k):  # tap (u, v) of every window at once
            columns[:, :, u, v] = x[:, :, u : u + stride * high : stride, v : v + stride * wide : stride]
    return columns.reshape(n, c * k * k, high * wide)


def col2im(columns: Tensor, shape: tuple[int, ...], k: int, stride: int = 1) -> Tensor:
    """The way back of `im2col`, to (N, C, H, W): a pixel that several windows looked at gets the sum."""
    n, c, h, w = shape
    high, wide = (h - k) // stride + 1, (w - k) // stride + 1
    taps, x = columns.reshape(n, c, k, k, high, wide), columns.new_zeros(shape)
    for u in range(k):
        for v in range(k):
            x[:, :, u : u + stride * high : stride, v : v + stride * wide : stride] += taps[:, :, u, v]
    return x


def convolve(x: Tensor, w: Tensor, b: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """(N, C, H, W), (O, C, K, K), (O,) -> (N, O, H', W')."""
    k, wide = w.shape[-1], padded(x, padding)
    y = w.flatten(1) @ im2col(wide, k, stride) + b[:, None]  # W columns + b, (N, O, H' W')
    return y.unflatten(2, ((wide.shape[2] - k) // stride + 1, -1))


def convolve_backward(
    error: Tensor, x: Tensor, w: Tensor, stride: int = 1, padding: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """From dL/dy (N, O, H', W') to dL/dx, dL/dw and dL/db."""
    k, wide, e = w.shape[-1], padded(x, padding), error.flatten(2)  # (N, O, H' W')
    by_w = (e @ im2col(wide, k, stride).mT).sum(0).reshape(w.shape)  # W' = sum_n Y' columns^T
    by_wide = col2im(w.flatten(1).T @ e, wide.shape, k, stride)  # columns' = W^T Y'
    inner = slice(padding, by_wide.shape[2] - padding), slice(padding, by_wide.shape[3] - padding)
    return by_wide[:, :, *inner], by_w, error.sum((0, 2, 3))  # b' = sum of Y' over pictures and places


def windows(x: Tensor, k: int) -> Tensor:
    """(N, C, H, W) -> (N, C, K K, H' W'): windows side by side, K apart; what does not fill one is left out."""
    return im2col(x, k, k).unflatten(1, (x.shape[1], k * k))


def max_pool(x: Tensor, k: int) -> Tensor:
    """(N, C, H, W) -> (N, C, H // K, W // K)."""
    return windows(x, k).amax(2).unflatten(2, (x.shape[2] // k, -1))


def max_pool_backward(error: Tensor, x: Tensor, k: int) -> Tensor:
    """All of a window's error goes to its largest, of several alike to the first, as in torch; the others get none."""
    seen = windows(x, k)
    largest = torch.zeros_like(seen).scatter(2, seen.argmax(2, keepdim=True), 1.0)
    return col2im((largest * error.flatten(2)[:, :, None]).flatten(1, 2), x.shape, k, k)


def average_pool(x: Tensor, k: int) -> Tensor:
    return windows(x, k).mean(2).unflatten(2, (x.shape[2] // k, -1))


def average_pool_backward(error: Tensor, x: Tensor, k: int) -> Tensor:
    each = (error / k**2).flatten(2)[:, :, None].expand(-1, -1, k * k, -1)  # every pixel had a share of 1 / K^2
    return col2im(each.flatten(1, 2), x.shape, k, k)
