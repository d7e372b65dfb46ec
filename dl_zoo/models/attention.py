"""Attention, and where tokens stand: the parts of the Transformer that its descendants share.

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, sections 3.2 and 3.5.

A position asks with a query q; every position it may look at answers with a key k and a value v:

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V                                             (eq. 1)
    MultiHead(x, y)    = [head_1, ..., head_H] W_O,  head_h = Attention(x W_Q, y W_K, y W_V)      (section 3.2.2)
    PE(t, 2i)          = sin(t / 10000^(2i/D)),  PE(t, 2i + 1) = cos(t / 10000^(2i/D))            (section 3.5)

A sum over positions does not know their order, hence PE. Rotary positions (Su et al. 2021, arXiv:2104.09864) turn
queries and keys by the same angles t / 10000^(2i/d) instead, so that q k^T depends on how far apart the two stand.
`from_scratch/attention.py` has the same in plain tensors.

Letters: B sequences, T positions that ask, S positions that answer, D width, H heads, d_k and d_v widths of a head.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]  # keys (B, H, S, d_k) and values (B, H, S, d_v)
POSITIONS = ("sinusoid", "learned", "rotary", "none")


class Attention(nn.Module):
    """`heads` attentions side by side. Keys are `head_width` wide, D / H unless said otherwise; values always D / H.

    While `maps` is a list, weights (B, H, T, S) are worked out one by one and appended to it.
    """

    maps: list[Tensor] | None = None

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int | None = None,
        dropout: float = 0.0,
        scaled: bool = True,
        bias: bool = True,
        kv_width: int | None = None,
    ):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        even = split(width, heads)
        keys = heads * (head_width or even)
        self.scale = (keys // heads) ** -0.5 if scaled else 1.0
        self.query = nn.Linear(width, keys, bias=bias)
        self.key = nn.Linear(kv_width or width, keys, bias=bias)
        self.value = nn.Linear(kv_width or width, width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | Pair | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        past: Pair | None = None,
        angles: Tensor | None = None,
    ) -> tuple[Tensor, Pair]:
        """(B, T, D) to (B, T, D), with the keys and values that were attended to.

        Args:
            memory: (B, S, kv_width), what is attended to instead of x; or keys and values of it.
            mask: True where position t may attend to s; bool, broadcastable to (B, H, T, S).
            causal: x's position t attends to s <= t only, and to all of `past`.
            past: keys and values of earlier positions, before those of x.
            angles: (2, T, d_k / 2), see `Positions.angles`.
        """
        query = self.split(self.query(x))
        key, value = memory if isinstance(memory, tuple) else self.pair(x if memory is None else memory)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        if past is not None and past[0].shape[2]:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        mixed = self.attend(query, key, value, mask, causal)
        return self.out(mixed.transpose(1, 2).flatten(2)), (key, value)

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, S, H * d) -> (B, H, S, d)

    def pair(self, memory: Tensor) -> Pair:
        return self.split(self.key(memory)), self.split(self.value(memory))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Eq. 1 for every head: (B, H, T, d_k), (B, H, S, d_k), (B, H, S, d_v) to (B, H, T, d_v)."""
        (t, s), dropout = (query.shape[2], key.shape[2]), self.dropout if self.training else 0.0
        whole = causal and t == s and mask is None and self.maps is None  # what the kernels know by name
        if causal and t > 1 and not whole:
            earlier = torch.ones(t, s, dtype=torch.bool, device=query.device).tril(s - t)
            mask = earlier if mask is None else mask & earlier
        if self.maps is None:
            arguments = (mask, dropout, whole, self.scale)
            if query.dtype == torch.bfloat16 and query.device.type == "cpu":  # its kernel is slow in bfloat16
                with torch.autocast("cpu", enabled=False):
                    return fused(query.float(), key.float(), value.float(), *arguments).to(query.dtype)
            return fused(query, key, value, *arguments)
        scores = self.scale * query @ key.transpose(2, 3)  # (B, H, T, S)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(3)
        if mask is not None:
            weights = weights.masked_fill(~mask, 0.0)  # as the kernels have it where nothing may be attended to
        self.maps.append(weights.detach())
        return F.dropout(weights, dropout) @ value


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, causal: bool, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale)


def attention_maps(net: nn.Module, *inputs: Any) -> tuple[Any, dict[str, Tensor]]:
    """A pass in evaluation mode without gradients: its output, and the weights (B, H, T, S) by the modules' names."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, Attention)}
    modes = {module: module.training for module in net.modules()}
    try:
        for layer in layers.values():
            layer.maps = []
        with torch.no_grad():
            output = net.eval()(*inputs)
        return output, {name: layer.maps[0] for name, layer in layers.items() if layer.maps}
    finally:
        for layer in layers.values():
            layer.maps = None
        for module, mode in modes.items():
            module.training = mode


def split(width: int, heads: int) -> int:
    """The width of a head."""
    if heads < 1 or width % heads:
        raise ValueError(f"width={width} is not a multiple of heads={heads}")
    return width // heads


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Pairs of neighbours of (B, H, T, d), each turned by its angle (Su et al. 2021, eq. 34)."""
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = angles.to(x.dtype)  # (T, d / 2) each
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class Positions(nn.Module):
    """Where a token stands: added to (B, T, width), or turning queries and keys of that width.

    A learned table has `length` rows. The others are computed, and know no end.
    """

    def __init__(self, kind: str, width: int, length: int | None = None):
        super().__init__()
        if kind not in POSITIONS:
            raise ValueError(f"positions={kind!r} is not one of {', '.join(POSITIONS)}")
        if kind == "learned" and not length:
            raise ValueError("positions='learned' needs context, the number of positions to learn")
        if kind == "rotary" and width % 2:
            raise ValueError(f"positions='rotary' turns pairs, and heads of width {width} have an odd number")
        self.kind, self.width = kind, width
        self.table = nn.Embedding(length or 0, width) if kind == "learned" else None

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """`start`: the position of x[:, 0]."""
        if self.table is not None:
            return x + self.table.weight[start : start + x.shape[1]]
        if self.kind == "sinusoid":
            waves = self.waves(x, start)  # (2, T, D / 2), sines second
            return x + waves.flip(0).movedim(0, -1).flatten(1)[:, : self.width].to(x.dtype)
        return x

    def angles(self, x: Tensor, start: int = 0) -> Tensor | None:
        """For rotary positions cosines and sines, (2, T, width / 2), of the positions of x (B, T, ...)."""
        return self.waves(x, start) if self.kind == "rotary" else None

    def waves(self, x: Tensor, start: int) -> Tensor:
        t = torch.arange(start, start + x.shape[1], device=x.device, dtype=torch.float32)
        i = torch.arange(0, self.width, 2, device=x.device, dtype=torch.float32)
        angles = t[:, None] * torch.exp(-math.log(10000.0) / self.width * i)
        return torch.stack([angles.cos(), angles.sin()])
