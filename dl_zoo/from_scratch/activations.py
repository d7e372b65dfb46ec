"""Activation functions and their derivatives, element by element, and softmax with its way back.

`ACTIVATIONS[name]` is the pair (f, f'). At a kink f' is torch's choice, the derivative from the left.

- The article's leaky ReLU, max(a z, z), is one only for 0 < a < 1; above 1 the maximum picks the other line. Here it is
  written with its condition.
- Sigmoid's derivative peaks at 0.25 and tanh's at 1 (section 1.4.1), both at z = 0. A product of many of them vanishes
  only where the weights between do not make up for it: what counts is W^T f'(z), not f' alone.
- The step's derivative is 0 wherever it exists, so descent learns nothing through it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Activation(NamedTuple):
    f: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


def step(z: Tensor) -> Tensor:
    """Rosenblatt's: 1 if z >= 0, else 0."""
    return (z >= 0).to(z.dtype)


def sigmoid(z: Tensor) -> Tensor:
    """1 / (1 + exp(-z)) = exp(z) / (1 + exp(z)): of the two the one whose exponential cannot overflow.

    >>> sigmoid(torch.tensor([-1000.0, 0.0, 1000.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    e = torch.exp(-z.abs())
    return torch.where(z >= 0, 1.0, e) / (1 + e)


def sigmoid_derivative(z: Tensor) -> Tensor:
    return sigmoid(z) * sigmoid(-z)  # s (1 - s), and 1 - s(z) = s(-z) keeps its digits where s is near 1


def tanh(z: Tensor) -> Tensor:
    """(exp(z) - exp(-z)) / (exp(z) + exp(-z)) = 2 sigmoid(2 z) - 1; torch's keeps more digits near 0."""
    return torch.tanh(z)


def tanh_derivative(z: Tensor) -> Tensor:
    return 1 / torch.cosh(z) ** 2  # 1 - tanh^2, which in float32 would round to 0 from z = 10 on


def relu(z: Tensor) -> Tensor:
    return z.clamp(min=0)  # max(0, z); Nair and Hinton 2010


def relu_derivative(z: Tensor) -> Tensor:
    return (z > 0).to(z.dtype)  # a unit below 0 on all data learns no more: the dying ReLU


def leaky_relu(z: Tensor, slope: float = 0.01) -> Tensor:
    """Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013."""
    return torch.where(z > 0, z, slope * z)


def leaky_relu_derivative(z: Tensor, slope: float = 0.01) -> Tensor:
    return torch.where(z > 0, torch.ones_like(z), slope)


def elu(z: Tensor, alpha: float = 1.0) -> Tensor:
    """Clevert, Unterthiner, Hochreiter, 2016, arXiv:1511.07289, eq. 15."""
    return torch.where(z > 0, z, alpha * torch.expm1(z.clamp(max=0)))  # alpha (exp(z) - 1)


def elu_derivative(z: Tensor, alpha: float = 1.0) -> Tensor:
    return torch.where(z > 0, torch.ones_like(z), alpha * torch.exp(z.clamp(max=0)))  # alpha exp(z)


def gelu(z: Tensor) -> Tensor:
    """z P(Z <= z) for a standard normal Z: Hendrycks, Gimpel, 2016, arXiv:1606.08415, section 2."""
    return z * gaussian(z)


def gelu_derivative(z: Tensor) -> Tensor:
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return gaussian(z) + z * density  # (z P)' = P + z p


def gaussian(z: Tensor) -> Tensor:
    return (1 + torch.erf(z / math.sqrt(2))) / 2  # P(Z <= z)


def silu(z: Tensor) -> Tensor:
    """The same paper's, with sigmoid for the normal distribution; also called swish."""
    return z * sigmoid(z)


def silu_derivative(z: Tensor) -> Tensor:
    s = sigmoid(z)
    return s + z * s * (1 - s)  # (z s)' = s + z s'


def softplus(z: Tensor) -> Tensor:
    """log(1 + exp(z)), a smooth ReLU: Dugas et al. 2001. torch's is z itself above 20, 2e-9 less than this."""
    return z.clamp(min=0) + torch.log1p(torch.exp(-z.abs()))  # log(1 + e^z) = z + log(1 + e^-z)


def softsign(z: Tensor) -> Tensor:
    return z / (1 + z.abs())  # Bergstra et al. 2009: flattens by a power, tanh by an exponential


def softsign_derivative(z: Tensor) -> Tensor:
    return 1 / (1 + z.abs()) ** 2


ACTIVATIONS = {
    "linear": Activation(lambda z: z, torch.ones_like),
    "step": Activation(step, torch.zeros_like),
    "sigmoid": Activation(sigmoid, sigmoid_derivative),
    "tanh": Activation(tanh, tanh_derivative),
    "relu": Activation(relu, relu_derivative),
    "leaky_relu": Activation(leaky_relu, leaky_relu_derivative),
    "elu": Activation(elu, elu_derivative),
    "gelu": Activation(gelu, gelu_derivative),
    "silu": Activation(silu, silu_derivative),
    "softplus": Activation(softplus, sigmoid),  # (log(1 + e^z))' = e^z / (1 + e^z)
    "softsign": Activation(softsign, softsign_derivative),
}


def softmax(z: Tensor) -> Tensor:
    """(..., C) to probabilities along the last dimension; z and z + c give the same.

    >>> softmax(torch.tensor([10000.0, 10000.0]))
    tensor([0.5000, 0.5000])
    """
    e = torch.exp(z - z.amax(-1, keepdim=True))  # less the largest: the same quotient, and no overflow
    return e / e.sum(-1, keepdim=True)  # p_i = exp(z_i) / sum_j exp(z_j)


def softmax_backward(error: Tensor, p: Tensor) -> Tensor:
    """From dL/dp to dL/dz. Each output depends on each z: dp_i/dz_j = p_i (1[i = j] - p_j)."""
    return p * (error - (error * p).sum(-1, keepdim=True))  # dL/dz_j = p_j (dL/dp_j - sum_i dL/dp_i p_i)


def log_softmax(z: Tensor) -> Tensor:
    z = z - z.amax(-1, keepdim=True)
    return z - z.exp().sum(-1, keepdim=True).log()  # log p_i = z_i - log sum_j exp(z_j): no log of a rounded 0
