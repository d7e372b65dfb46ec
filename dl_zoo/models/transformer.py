"""The Transformer: a sentence becomes another by attention alone, all positions at once.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin, "Attention Is All You Need", 2017,
arXiv:1706.03762, sections 3 and 5.4, table 3. Attention itself is in `attention`.

    FFN(x)   = max(0, x W_1 + b_1) W_2 + b_2                    (eq. 2)
    sublayer = LayerNorm(x + Dropout(f(x)))                     (sections 3.1 and 5.4)

            layers   width   hidden   heads   dropout   parameters at V = 37,000   without embeddings
    base    6        512     2048     8       0.1        63,082,496                 44,138,496
    big     6        1024    4096     16      0.3       214,245,376                176,357,376

Table 3 prints 65 and 213 million. One matrix is both embeddings and the output layer (section 3.4).

The paper does not say its initial weights: here N(0, 1/D) for embeddings, so that those scaled by sqrt(D) have unit
variance, and Xavier's for the rest. Not in the paper: `norm="pre"`, x + f(LayerNorm(x)) with a last norm, which trains
without warm-up (Xiong et al. 2020, arXiv:2002.04745); rotary positions; dropout of attention weights and hidden units.

Letters: B sentences, S source tokens, T target tokens, D width, H heads, V vocabulary.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.attention import Attention, Pair, Positions, attention_maps, split

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}
NORMS = ("post", "pre")


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, activation: str = "relu", dropout: float = 0.0, bias: bool = True):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not one of {', '.join(ACTIVATIONS)}")
        self.inner = nn.Linear(width, hidden, bias=bias)
        self.outer = nn.Linear(hidden, width, bias=bias)
        self.dropout, self.activation = nn.Dropout(dropout), ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.dropout(self.activation(self.inner(x))))


class EncoderLayer(nn.Module):
    """Self-attention, then two dense layers, each added to what it was given. `attention_dropout` None is `dropout`."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        head_width: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float | None = None,
        hidden_dropout: float = 0.0,
        activation: str = "relu",
        norm: str = "post",
        scaled: bool = True,
        eps: float = 1e-5,
        bias: bool = True,
    ):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm={norm!r} is not one of {', '.join(NORMS)}")
        self.pre, rate = norm == "pre", dropout if attention_dropout is None else attention_dropout
        self.attention = Attention(width, heads, head_width, rate, scaled, bias)
        self.attention_norm = nn.LayerNorm(width, eps, bias=bias)
        self.feed = FeedForward(width, hidden, activation, hidden_dropout, bias)
        self.feed_norm = nn.LayerNorm(width, eps, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        past: Pair | None = None,
        angles: Tensor | None = None,
    ) -> tuple[Tensor, Pair]:
        """(B, T, D) to (B, T, D), with the keys and values so far; arguments as `Attention.forward`'s."""
        asked = self.before(x, self.attention_norm)
        found, pair = self.attention(asked, mask=mask, causal=causal, past=past, angles=angles)
        x = self.after(x, found, self.attention_norm)
        return self.after(x, self.feed(self.before(x, self.feed_norm)), self.feed_norm), pair

    def before(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return norm(x) if self.pre else x

    def after(self, x: Tensor, change: Tensor, norm: nn.LayerNorm) -> Tensor:
        x = x + self.dropout(change)
        return x if self.pre else norm(x)


class DecoderLayer(EncoderLayer):
    """Between the two of an `EncoderLayer`, attention to the encoder's output; the first sees no later positions."""

    def __init__(self, width: int, heads: int, hidden: int, **others: Any):
        super().__init__(width, heads, hidden, **others)
        shared = {key: others[key] for key in ("head_width", "scaled", "bias") if key in others}
        self.cross = Attention(width, heads, dropout=self.attention.dropout, **shared)
        self.cross_norm = nn.LayerNorm(width, self.feed_norm.eps, bias=others.get("bias", True))

    def decode(
        self, x: Tensor, memory: Pair, mask: Tensor | None, past: Pair | None, angles: Tensor | None
    ) -> tuple[Tensor, Pair]:
        """(B, T, D) to (B, T, D); `memory` as keys and values of `cross`, `mask` says which of them count."""
        found, pair = self.attention(self.before(x, self.attention_norm), causal=True, past=past, angles=angles)
        x = self.after(x, found, self.attention_norm)
        x = self.after(x, self.cross(self.before(x, self.cross_norm), memory, mask)[0], self.cross_norm)
        return self.after(x, self.feed(self.before(x, self.feed_norm)), self.feed_norm), pair


State = tuple[Tensor, tuple[tuple[Tensor, ...], ...]]  # (B, 1, 1, S); keys and values so far, and of memory, a layer


class Transformer(nn.Module):
    """Translator over one vocabulary for both languages. `context` 0 is any length.

    >>> net = Transformer(vocab_size=100, width=32, heads=4, hidden=64, depth=2)
    >>> sum(p.numel() for p in net.parameters())  # 3,200 + 2 * (8,544 + 12,832)
    45952
    >>> net(torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64))[0].shape
    torch.Size([2, 5, 100])
    """

    def __init__(
        self,
        vocab_size: int = 37000,
        context: int = 0,
        pad_id: int | None = 0,
        width: int = 512,
        heads: int = 8,
        hidden: int = 2048,
        depth: int = 6,
        head_width: int | None = None,
        dropout: float = 0.1,
        embedding_dropout: float | None = None,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        norm: str = "post",
        positions: str = "sinusoid",
        scaled: bool = True,
        tied: bool = True,
    ):
        super().__init__()
        self.context, self.pad_id, self.width = context or 0, pad_id, width
        self.embedding = nn.Embedding(vocab_size, width)
        self.target = None if tied else nn.Embedding(vocab_size, width)
        self.head = None if tied else nn.Linear(width, vocab_size, bias=False)
        self.heads = () if tied else ("head",)
        of_heads = (head_width or split(width, heads)) if positions == "rotary" else width
        self.positions = Positions(positions, of_heads, context)
        self.dropout = nn.Dropout(dropout if embedding_dropout is None else embedding_dropout)
        layer: dict[str, Any] = {
            "head_width": head_width,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "hidden_dropout": hidden_dropout,
            "norm": norm,
            "scaled": scaled,
        }
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden, **layer) for _ in range(depth))
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden, **layer) for _ in range(depth))
        self.encoder_norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        initialize(self)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """(B, S), (B, T) to logits (B, T, V) and the state behind the target. `lengths` are read off the padding."""
        return self.decode(target, self.start(self.encode(source)))

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> Pair:
        """(B, S) to what the decoder looks at, (B, S, D), and where that is no padding, (B, 1, 1, S)."""
        mask = torch.ones_like(source, dtype=torch.bool) if self.pad_id is None else source != self.pad_id
        mask = mask[:, None, None]
        x, angles = self.embed(self.embedding, source, 0)
        for layer in self.encoder:
            x, _ = layer(x, None if self.pad_id is None else mask, angles=angles)
        return self.encoder_norm(x), mask

    def start(self, memory: Pair) -> State:
        """The state before the first target: no keys and values yet, and those of `memory` for every layer."""
        encoded, mask = memory
        decoder: Iterable[Any] = self.decoder
        pairs = (layer.cross.pair(encoded) for layer in decoder)
        return mask, tuple((key[:, :, :0], value[:, :, :0], key, value) for key, value in pairs)

    def decode(self, target: Tensor, state: State) -> tuple[Tensor, State]:
        """The next T targets (B, T) to logits (B, T, V) and the state behind them."""
        mask, past = state
        x, angles = self.embed(self.target or self.embedding, target, past[0][0].shape[2])
        layers: list[tuple[Tensor, ...]] = []
        decoder: Iterable[Any] = self.decoder
        for layer, (key, value, *memory) in zip(decoder, past, strict=True):
            x, pair = layer.decode(x, tuple(memory), None if self.pad_id is None else mask, (key, value), angles)
            layers.append((*pair, *memory))
        x = self.decoder_norm(x)
        logits = F.linear(x, self.embedding.weight) if self.head is None else self.head(x)
        return logits, (mask, tuple(layers))

    def embed(self, table: nn.Embedding, tokens: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
        """(B, T) to (B, T, D), and what turns the queries and keys there."""
        check_length(start + tokens.shape[1], self.context)
        x = table(tokens) * self.width**0.5  # (B, T, D), section 3.4
        return self.dropout(self.positions(x, start)), self.positions.angles(x, start)

    def attention_maps(self, *inputs: Any) -> tuple[Any, dict[str, Tensor]]:
        return attention_maps(self, *inputs)


def check_length(length: int, context: int) -> None:
    if context and length > context:
        raise ValueError(f"a sequence of {length} tokens is longer than the context, {context}")


def initialize(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=layer.embedding_dim**-0.5)
        elif isinstance(layer, nn.Linear) and layer is not getattr(net, "head", None):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
