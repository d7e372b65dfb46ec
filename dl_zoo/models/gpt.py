"""GPT: the Transformer's decoder alone, which guesses the next token of any text.

GPT-1: Radford, Narasimhan, Salimans, Sutskever, "Improving Language Understanding by Generative Pre-Training", 2018,
section 4.1. GPT-2: Radford, Wu, Child, Luan, Amodei, Sutskever, "Language Models are Unsupervised Multitask Learners",
2019, section 2.3 and table 2. Neither was put on arXiv.

    p(x_1, ..., x_T) = product over t of p(x_t | x_1, ..., x_t-1)          (GPT-2, eq. 1)
    h_0 = U W_e + W_p,  h_n = layer(h_n-1),  p = softmax(norm(h_N) W_e^T)  (GPT-1, eq. 2, which has no last norm)

                   layers   width   heads   context   vocabulary      parameters
    gpt1           12        768    12       512      40,478         116,534,784
    gpt2           12        768    12      1024      50,257         124,439,808
    gpt2_medium    24       1024    16      1024      50,257         354,823,168
    gpt2_large     36       1280    20      1024      50,257         774,030,080
    gpt2_xl        48       1600    25      1024      50,257       1,557,611,200

GPT-1 is post-norm as the Transformer. GPT-2 is pre-norm with a norm at the end, and starts the last weights of each
residual branch 1 / sqrt(number of branches) smaller, so that the sum of all does not grow with depth. Both have learned
positions, GELU in its tanh form, dropout 0.1 everywhere, N(0, 0.02) weights, and the embedding as output layer. GPT-2's
paper leaves out heads, dropout, the deviation and GELU's form, which are those of the published weights and code.

A character model needs little: 6 layers, 6 heads, 384 wide, 256 characters of context without biases have 10,745,088
parameters over 65 symbols, and 4, 4, 128, 64 have 804,096.
"""

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.attention import Pair, Positions, attention_maps, split
from dl_zoo.models.transformer import EncoderLayer, check_length

State = tuple[Pair, ...]  # a layer's keys and values so far, (B, H, P, D / H) each


class GPT(nn.Module):
    """Language model. Tokens (B, T) to logits of the next ones (B, T, V), at most `context` tokens in all.

    >>> net = GPT(vocab_size=65, context=64, width=128, heads=4, depth=4, bias=False)
    >>> sum(p.numel() for p in net.parameters())  # 8,320 + 8,192 + 4 * 196,864 + 128
    804096
    >>> logits, state = net(torch.zeros(2, 5, dtype=torch.int64))
    >>> logits.shape, net(torch.zeros(2, 1, dtype=torch.int64), state)[0].shape  # the sixth token
    (torch.Size([2, 5, 65]), torch.Size([2, 1, 65]))
    """

    def __init__(
        self,
        vocab_size: int = 50257,
        context: int = 1024,
        width: int = 768,
        heads: int = 12,
        depth: int = 12,
        head_width: int | None = None,
        dropout: float = 0.1,
        embedding_dropout: float | None = None,
        attention_dropout: float | None = None,
        norm: str = "pre",
        positions: str = "learned",
        scaled: bool = True,
        bias: bool = True,
        tied: bool = True,
        final_norm: bool = True,
    ):
        super().__init__()
        self.context = context or 0
        self.embedding = nn.Embedding(vocab_size, width)
        turned = (head_width or split(width, heads)) if positions == "rotary" else width
        self.positions = Positions(positions, turned, context)
        self.dropout = nn.Dropout(dropout if embedding_dropout is None else embedding_dropout)
        layer: dict[str, Any] = {
            "head_width": head_width,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation": "gelu_tanh",
            "norm": norm,
            "scaled": scaled,
            "bias": bias,
        }
        self.layers = nn.ModuleList(EncoderLayer(width, heads, 4 * width, **layer) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=bias) if final_norm else nn.Identity()
        self.head = None if tied else nn.Linear(width, vocab_size, bias=False)
        self.heads = () if tied else ("head",)
        initialize(self, branches=2 * depth if norm == "pre" else 1)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, T) to logits (B, T, V) and the state behind them. `state`: of the tokens before these, None of no one."""
        start = state[0][0].shape[2] if state else 0
        check_length(start + tokens.shape[1], self.context)
        x = self.dropout(self.positions(self.embedding(tokens), start))  # (B, T, D)
        angles = self.positions.angles(x, start)
        pairs = []
        for number, layer in enumerate(self.layers):
            x, pair = layer(x, causal=True, past=state[number] if state else None, angles=angles)
            pairs.append(pair)
        x = self.norm(x)
        return F.linear(x, self.embedding.weight) if self.head is None else self.head(x), tuple(pairs)

    def attention_maps(self, *inputs: Any) -> tuple[Any, dict[str, Tensor]]:
        return attention_maps(self, *inputs)

    def adopted(self, state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
        """`checkpoints.load_weights` asks: Hugging Face's GPT and GPT-2, and nanoGPT's, in our names and shapes."""
        return adopted(state, tied=self.head is None)


def initialize(net: nn.Module, branches: int) -> None:
    """GPT-2, section 2.3: the layers that end a residual branch start smaller."""
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            last = name.endswith(("attention.out", "feed.outer"))
            nn.init.normal_(layer.weight, std=0.02 / (branches if last else 1) ** 0.5)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


RENAMED = {  # theirs: ours
    "wte.": "embedding.",
    "tokens_embed.": "embedding.",
    "wpe.": "positions.table.",
    "positions_embed.": "positions.table.",
    "h.": "layers.",
    "ln_1.": "attention_norm.",
    "attn.c_attn.": "attention.fused.",
    "attn.c_proj.": "attention.out.",
    "ln_2.": "feed_norm.",
    "mlp.c_fc.": "feed.inner.",
    "mlp.c_proj.": "feed.outer.",
    "ln_f.": "norm.",
    "lm_head.": "head.",
}
FUSED = "h.0.attn.c_attn.weight"
THEIRS = re.compile("|".join(rf"(?<![a-z_]){re.escape(name)}" for name in RENAMED))
MASKS = (".attn.bias", ".attn.masked_bias")  # buffers of Hugging Face's: what is causal, and what is put elsewhere


def adopted(state: dict[str, Tensor], tied: bool) -> tuple[str, dict[str, Tensor]]:
    """Theirs have one product for queries, keys and values; Hugging Face's matrices are (inputs, outputs).

    A head that is the embedding once more is left out where the net is tied, and put in where it is not.
    """
    first = next((key for key in state if re.search(rf"(^|\.){re.escape(FUSED)}$", key)), "")
    if not first or state[first].dim() != 2:
        return "", state
    prefix, transposed = first.removesuffix(FUSED), state[first].shape[0] < state[first].shape[1]
    wrapper = prefix.removesuffix("transformer.")
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        name = THEIRS.sub(lambda found: RENAMED[found[0]], key.removeprefix(prefix).removeprefix(wrapper))
        turned = value.T if transposed and value.dim() == 2 and name.startswith("layers.") else value
        if ".fused." in name:
            for part, piece in zip(("query", "key", "value"), turned.chunk(3), strict=True):
                ours[name.replace("fused", part)] = piece
        elif not key.endswith(MASKS):
            ours[name] = turned
    embedding, head = ours.get("embedding.weight"), ours.get("head.weight")
    if tied and head is not None and embedding is not None and torch.equal(head, embedding):
        del ours["head.weight"]
    if not tied and head is None and embedding is not None:
        ours["head.weight"] = embedding
    old = any("tokens_embed" in key for key in state)
    return ("Hugging Face GPT" if old else "Hugging Face GPT-2") if transposed else "nanoGPT", ours
