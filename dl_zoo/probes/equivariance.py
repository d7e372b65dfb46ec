"""Does an encoder know in which order its tokens stand?

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 3.5: a sum over positions says nothing of
their order, so without positions an encoder f only moves its outputs about as its inputs are moved,

    f(P x) = P f(x)   for every permutation P of the positions.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError


@torch.no_grad()
def equivariance(task: Any, data: Any, *, draws: int = 10, items: int = 8) -> dict[str, float]:
    """The largest |f(P x) - P f(x)| over `draws` permutations P, in float64; f is the net's `encode`, x the first
    `items` sequences (B, T) of a training batch, of a translator the sources.

        equivariance/difference    0 to rounding where the encoder knows no order; a last norm's outputs are about 1

    Raises:
        UserError: `draws` or `items` below 1, or a net without an encoder of tokens.
    """
    for name, value in {"draws": draws, "items": items}.items():
        if value < 1:
            raise UserError(f"{name}={value}: must be at least 1")
    if not hasattr(task.net, "encode"):
        raise UserError("equivariance: it asks an encoder, and this net has none; take a translator or a BERT")
    net = copy.deepcopy(task.net).double()
    first = next(iter(data.loader("train")))[0]
    tokens = (first[0] if isinstance(first, tuple | list) else first)[:items].to(next(net.parameters()).device)
    still = encoded(net, tokens)  # (B, T, D)
    if still.shape[:2] != tokens.shape:
        raise UserError("equivariance: it compares vectors of tokens, and this encoder gives others")
    found = []
    for _ in range(draws):
        order = torch.randperm(tokens.shape[1], device=tokens.device)
        found.append((encoded(net, tokens[:, order]) - still[:, order]).abs().max())
    return {"equivariance/difference": float(torch.stack(found).max())}  # NaN stays NaN


def encoded(net: Any, tokens: Tensor) -> Tensor:
    answer = net.encode(tokens)
    return answer[0] if isinstance(answer, tuple) else answer  # a mask of the padding comes second
