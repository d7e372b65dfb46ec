"""BERT: the encoder of a Transformer, taught to fill gaps in text, then to judge whole sentences.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018,
arXiv:1810.04805, section 3 and appendix A.

    x_0 = LayerNorm(word + position + segment)                                           (figure 2)
    x_l = EncoderLayer(x_{l-1}), post-norm, with GELU (Hendrycks, Gimpel 2016) for ReLU
    gap = LayerNorm(GELU(W x_L + b)) E^T + c,   E the word vectors                       (masked language model)
    C   = tanh(W x_L[first] + b)                                                         (pooler)

                base          large                                   base          large
    words       23,440,896    31,254,528    pooler                    590,592       1,049,600
    positions      393,216       524,288    without gap head      109,482,240     335,141,888
    the rest         3,072         4,096    head for the gaps         622,650       1,082,170
    layers      85,054,464   302,309,376    without pooler        109,514,298     335,174,458

The paper trains both ends at once, the pooler by asking whether a sentence follows another. Here a net has one:
`num_classes=None` fills gaps and has no pooler, a number of classes judges by the pooler, and 0 stops at the pooler.
Weights of one form start another: what both have is loaded, the other's head is dropped, and one's own stays fresh.

Not in the paper but in its authors' code: the gaps' head beyond E, epsilon 1e-12, initial weights N(0, 0.02) cut at two
deviations, biases zero.

Letters: B texts, T positions, D width, V vocabulary, K classes.
"""

import re
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.transformer import EncoderLayer, Positions, attention_maps, check_length, split

HUGGING_FACE = {  # its names, and ours, replaced in this order
    "LayerNorm.gamma": "LayerNorm.weight",  # files of 2018 and 2019
    "LayerNorm.beta": "LayerNorm.bias",
    "embeddings.word_embeddings": "embedding.tokens",
    "embeddings.position_embeddings": "embedding.positions.table",
    "embeddings.token_type_embeddings": "embedding.segments",
    "embeddings.LayerNorm": "embedding.norm",
    "encoder.layer.": "layers.",
    "attention.self.": "attention.",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed.inner",
    "output.dense": "feed.outer",
    "output.LayerNorm": "feed_norm",
    "pooler.dense": "pooler",
    "cls.predictions.transform.dense": "mlm.dense",
    "cls.predictions.transform.LayerNorm": "mlm.norm",
    "cls.predictions.bias": "mlm.bias",
    "cls.predictions.decoder": "decoder",
    "cls.seq_relationship": "next_sentence",
}


class Embedding(nn.Module):
    """Words, positions and segments: (B, T) and (B, T) to (B, T, D)."""

    def __init__(self, vocab_size: int, positions: Positions, segments: int, width: int, dropout: float, eps: float):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = positions
        self.segments = nn.Embedding(segments, width)
        self.norm = nn.LayerNorm(width, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, segments: Tensor | None) -> Tensor:
        segment = self.segments.weight[0] if segments is None else self.segments(segments)
        return self.dropout(self.norm(self.positions(self.tokens(tokens)) + segment))


class MaskedLanguageHead(nn.Module):
    """Scores of every word at every position; the words' vectors (V, D) are the embedding's."""

    def __init__(self, vocab_size: int, width: int, eps: float):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps)
        self.bias = nn.Parameter(torch.empty(vocab_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(x))), words, self.bias)  # (B, T, D) -> (B, T, V)


class BERT(nn.Module):
    """Logits of the words at all positions (B, T, V); or of the classes of a text (B, K); or its features (B, D).

    >>> net = BERT(vocab_size=100, context=16, width=8, heads=2, depth=1).eval()
    >>> net(torch.ones(2, 16, dtype=torch.int64)).shape
    torch.Size([2, 16, 100])
    >>> net = BERT(vocab_size=100, context=16, width=8, heads=2, depth=1, num_classes=3).eval()
    >>> net(torch.ones(2, 16, dtype=torch.int64)).shape
    torch.Size([2, 3])

    Args:
        context: the longest text.
        pad_id: positions with this token are attended to by none; None where there are no such.
        hidden: units between the two dense layers, 4 * width where None.
        dropout: after the embedding, of attention weights, before each sum, and before the classifier.
        positions: learned, as in the paper, or sinusoid, rotary, none.
        segments: sentences that a text may consist of.
        num_classes: None fills gaps, 0 gives features.
    Raises:
        ValueError: a width that is not a multiple of heads; a text longer than the context.
    """

    heads: ClassVar[tuple[str, ...]] = ("pooler", "classifier", "mlm")
    all_heads: ClassVar[tuple[str, ...]] = (*heads, "next_sentence")

    def __init__(
        self,
        vocab_size: int = 30522,
        context: int = 512,
        pad_id: int | None = 0,
        width: int = 768,
        heads: int = 12,
        depth: int = 12,
        hidden: int | None = None,
        dropout: float = 0.1,
        positions: str = "learned",
        segments: int = 2,
        num_classes: int | None = None,
        eps: float = 1e-12,
    ):
        super().__init__()
        self.context, self.pad_id = context, pad_id
        how: dict[str, Any] = {"dropout": dropout, "activation": "gelu", "norm": "post", "eps": eps}
        where = Positions(positions, split(width, heads) if positions == "rotary" else width, context)
        self.embedding = Embedding(vocab_size, where, segments, width, dropout, eps)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden or 4 * width, **how) for _ in range(depth))
        if num_classes is None:
            self.mlm = MaskedLanguageHead(vocab_size, width, eps)
        else:
            self.pooler = nn.Linear(width, width)
            self.dropout = nn.Dropout(dropout)
            self.classifier = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        self.fills_gaps = num_classes is None
        self.apply(initialize)

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        x = self.encode(tokens, segments)
        if self.fills_gaps:
            return self.mlm(x, self.embedding.tokens.weight)
        pooled = torch.tanh(self.pooler(x[:, 0]))  # (B, D)
        return self.classifier(self.dropout(pooled))

    def encode(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """The last layer's outputs (B, T, D) for token ids (B, T), and segments (B, T) or all the first."""
        check_length(tokens.shape[1], self.context)
        mask = None if self.pad_id is None else (tokens != self.pad_id)[:, None, None]  # (B, 1, 1, T)
        x = self.embedding(tokens, segments)
        angles = self.embedding.positions.angles(x)
        for layer in self.layers:
            x, _ = layer(x, mask, angles=angles)
        return x

    def attention_maps(self, *inputs: Any) -> tuple[Any, dict[str, Tensor]]:
        """Of `forward`'s inputs: its output, and each layer's weights (B, H, T, T) by name."""
        return attention_maps(self, *inputs)

    def adopted(self, state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
        """Hugging Face's BERT, with whatever heads, under our names; or "" and the state itself.

        Buffers of position ids say nothing and are left out, and so is the head's second copy of the words' vectors
        and of its bias, where it is a copy.
        """
        pattern = r"((?:module\.|model\.)*)(?:bert\.)?embeddings\.word_embeddings\.weight"
        found = next((match for name in state if (match := re.fullmatch(pattern, name))), None)
        if found is None:
            return "", state
        ours = {_named(name.removeprefix(found.group(1))): value for name, value in state.items()}
        ours.pop("embeddings.position_ids", None)
        return "Hugging Face BERT", _without_copies(ours)


def _named(name: str) -> str:
    name = name.removeprefix("bert.")
    for theirs, ours in HUGGING_FACE.items():
        name = name.replace(theirs, ours)
    return name


def _without_copies(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A decoder that is no copy stays, and will be told as unexpected: this net has none of its own."""
    for copy, original in (("decoder.weight", "embedding.tokens.weight"), ("decoder.bias", "mlm.bias")):
        value = state.get(copy)
        if value is not None and torch.equal(value, state.setdefault(original, value)):
            del state[copy]
    return state


def initialize(layer: nn.Module) -> None:
    """The authors' initial weights."""
    if isinstance(layer, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
    if isinstance(layer, nn.Linear):
        nn.init.zeros_(layer.bias)
