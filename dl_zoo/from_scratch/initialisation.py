"""First weights: how far apart they are drawn so that signals neither die nor explode on their way through a net.

A unit sums n_in products of weights and inputs that do not depend on one another, so Var z = n_in Var w E[x^2]; on the
way back a unit gets n_out of them. With x of mean 0 and slope 1 the variance stays where

    forwards  n_in Var w = 1,    backwards  n_out Var w = 1

The article (section 4.3) has weights of zero break the symmetry of units. They keep it: units of one layer that begin
alike get the same gradient and stay alike, and behind weights of zero it is zero. Draws that differ break it.

Shapes: dense weights (n_out, n_in), kernels (C_out, C_in, kH, kW), of which each output sums C_in kH kW products.
"""

import math

import torch
from torch import Generator, Tensor


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """n_in and n_out: through how many products a sum, or an input, runs.

    >>> fans((20, 50)), fans((16, 3, 5, 5))
    ((50, 20), (75, 400))
    """
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def xavier_uniform(shape: tuple[int, ...], generator: Generator, gain: float = 1.0) -> Tensor:
    """Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, eq. 16."""
    n_in, n_out = fans(shape)
    bound = gain * math.sqrt(6 / (n_in + n_out))  # U(-a, a) has variance a^2 / 3 = 2 / (n_in + n_out), eq. 12
    return (2 * torch.rand(shape, generator=generator) - 1) * bound


def xavier_normal(shape: tuple[int, ...], generator: Generator, gain: float = 1.0) -> Tensor:
    n_in, n_out = fans(shape)
    return gain * math.sqrt(2 / (n_in + n_out)) * torch.randn(shape, generator=generator)  # eq. 12


def he_normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852, eq. 10.

    A ReLU lets half of a symmetric signal through, so E[x^2] = Var z / 2 and 1/2 n_in Var w = 1.
    """
    n_in, _ = fans(shape)
    return math.sqrt(2 / n_in) * torch.randn(shape, generator=generator)


def he_uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    n_in, _ = fans(shape)
    return (2 * torch.rand(shape, generator=generator) - 1) * math.sqrt(6 / n_in)  # a^2 / 3 = 2 / n_in
