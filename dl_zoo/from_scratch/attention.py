"""Attention written out: what one call of `F.scaled_dot_product_attention` does, and its gradient by hand.

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, sections 3.2 and 3.5.

Letters: B sequences, T positions that ask, S positions that answer, D width, H heads, d_k and d_v widths of a head.
"""

from typing import NamedTuple

import torch
from torch import Tensor


def softmax(x: Tensor) -> Tensor:
    """Along the last dimension; -inf gets weight 0.

    >>> softmax(torch.tensor([0.0, 0.0, -torch.inf]))
    tensor([0.5000, 0.5000, 0.0000])
    """
    e = (x - x.amax(-1, keepdim=True)).exp()  # less the largest: the same quotient, and no overflow
    return e / e.sum(-1, keepdim=True)  # p_i = exp(x_i) / sum_j exp(x_j)


def causal(t: int, s: int | None = None) -> Tensor:
    """Mask (T, S), True where a position may look: the last T of S positions, each up to itself.

    >>> causal(2, 3)
    tensor([[ True,  True, False],
            [ True,  True,  True]])
    """
    s = t if s is None else s
    return torch.arange(s) <= torch.arange(s - t, s)[:, None]


def weights(q: Tensor, k: Tensor, mask: Tensor | None = None, scaled: bool = True) -> Tensor:
    """How much each position looks at each other: (..., T, d_k), (..., S, d_k) to (..., T, S), rows of sum 1.

    Of independent q and k with variance 1 the product has variance d_k; divided by sqrt(d_k) again 1 (footnote 4).
    Each row of `mask` must leave a place to look at.
    """
    scores = torch.einsum("...td,...sd->...ts", q, k)  # Q K^T
    if scaled:
        scores = scores / q.shape[-1] ** 0.5  # Q K^T / sqrt(d_k)
    if mask is not None:
        scores = torch.where(mask, scores, -torch.inf)  # section 3.2.3
    return softmax(scores)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scaled: bool = True) -> Tensor:
    """(..., T, d_k), (..., S, d_k), (..., S, d_v) to (..., T, d_v)."""
    return torch.einsum("...ts,...sd->...td", weights(q, k, mask, scaled), v)  # softmax(Q K^T / sqrt(d_k)) V, eq. 1


def attention_gradients(
    error: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scaled: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """What `error`, the loss's gradient by the output (..., T, d_v), makes of q, k and v:

        dV = P^T dO,  dP = dO V^T,  dS_ts = P_ts (dP_ts - sum_r P_tr dP_tr)
        dQ = dS K / sqrt(d_k),  dK = dS^T Q / sqrt(d_k)

    P are the weights, S the scores that they are the softmax of.
    """
    p = weights(q, k, mask, scaled)
    scale = q.shape[-1] ** -0.5 if scaled else 1.0
    dv = torch.einsum("...ts,...td->...sd", p, error)  # P^T dO
    dp = torch.einsum("...td,...sd->...ts", error, v)  # dO V^T
    ds = p * (dp - (p * dp).sum(-1, keepdim=True))  # through the softmax; 0 where the mask is
    dq = scale * torch.einsum("...ts,...sd->...td", ds, k)  # dS K / sqrt(d_k)
    dk = scale * torch.einsum("...ts,...td->...sd", ds, q)  # dS^T Q / sqrt(d_k)
    return dq, dk, dv


class Projections(NamedTuple):
    """Of all heads side by side, as x W + b: `query` and `key` (D, H d_k), `value` (D, H d_v), `out` (H d_v, D)."""

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    biases: tuple[Tensor, Tensor, Tensor, Tensor] | tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def multi_head(
    x: Tensor, memory: Tensor, by: Projections, heads: int, mask: Tensor | None = None, scaled: bool = True
) -> Tensor:
    """(B, T, D) asks (B, S, D), which is x itself in self-attention; mask (T, S) or (B, T, S). To (B, T, D)."""
    q = x @ by.query + by.biases[0]  # (B, T, H d_k)
    k = memory @ by.key + by.biases[1]  # (B, S, H d_k)
    v = memory @ by.value + by.biases[2]  # (B, S, H d_v)
    found = []
    for q_h, k_h, v_h in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        found.append(attention(q_h, k_h, v_h, mask, scaled))  # head_h = Attention(x W_Q, y W_K, y W_V)
    return torch.cat(found, -1) @ by.out + by.biases[3]  # [head_1, ..., head_H] W_O


def sinusoids(length: int, width: int) -> Tensor:
    """(T, D): a position's sines and cosines, of wavelengths from 2 pi to 10,000 times that."""
    table = torch.zeros(length, width)
    t = torch.arange(length)
    for i in range(0, width, 2):
        table[:, i] = torch.sin(t / 10000 ** (i / width))  # PE(t, 2i) = sin(t / 10000^(2i/D))
        table[:, i + 1] = torch.cos(t / 10000 ** (i / width))  # PE(t, 2i + 1) = cos(t / 10000^(2i/D))
    return table
