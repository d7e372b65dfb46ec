"""The Vision Transformer: a picture cut into patches is a sentence, and no layer knows which of them are neighbours.

Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai, Unterthiner, Dehghani, Minderer, Heigold, Gelly, Uszkoreit, Houlsby,
"An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2020, arXiv:2010.11929, section 3.1.

    z_0 = [class; x_1 E; ...; x_N E] + E_pos,   x_n a patch of P x P pixels, N = (size / P)^2    (eq. 1)
    z_l = EncoderLayer(z_{l-1}), pre-norm, with GELU                                             (eq. 2 and 3)
    y   = LayerNorm(z_L[class])                                                                  (eq. 4)

            layers   width   hidden   heads   patch   parameters   of 1000 classes
    tiny    12       192     768      3       16        5,717,416
    small   12       384     1536     6       16       22,050,664
    base    12       768     3072     12      16       86,567,656   (32: 88,224,232)
    large   24       1024    4096     16      16      304,326,632

Base and large are table 1's; the others are of Touvron et al., "Training data-efficient image transformers &
distillation through attention", 2020, arXiv:2012.12877, table 1. Base in parts: patches 590,592, class token 768,
positions 151,296, layers 12 x 7,087,872, norm 1,536, head 769,000.

The head is one layer that starts at zero, as the paper has it for fine-tuning; its hidden layer for pre-training is not
here. Dropout comes after every dense layer but those of queries, keys and values, and after the positions (appendix
B.1). Initial weights are those of the authors' code: Xavier's in the layers, LeCun's for the patches, N(0, 0.02) for
positions, zero for the class token; biases are zero, where theirs between the dense layers are N(0, 1e-6).

Letters: B pictures, C channels, P patch, N patches, D width, H heads.
"""

import re
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dl_zoo.models.transformer import EncoderLayer, Positions, attention_maps

KINDS = ("learned", "sinusoid", "none")
HUGGING_FACE = {  # its names, and ours, replaced in this order; those of files, then those of recent objects
    "embeddings.cls_token": "embedding.token",
    "embeddings.position_embeddings": "embedding.positions.table.weight",
    "embeddings.patch_embeddings.projection": "embedding.patches",
    "encoder.layer.": "layers.",
    "attention.attention.": "attention.",
    "attention.output.dense": "attention.out",
    "intermediate.dense": "feed.inner",
    "output.dense": "feed.outer",
    "pooler.dense": "pooler",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "o_proj": "out",
    "mlp.fc1": "feed.inner",
    "mlp.fc2": "feed.outer",
    "layernorm_before": "attention_norm",
    "layernorm_after": "feed_norm",
    "layernorm": "norm",
    "classifier": "head",
}
TORCHVISION = {
    "class_token": "embedding.token",
    "encoder.pos_embedding": "embedding.positions.table.weight",
    "conv_proj": "embedding.patches",
    "encoder.layers.encoder_layer_": "layers.",
    "self_attention.in_proj_": "attention.in_proj.",
    "self_attention.out_proj": "attention.out",
    "ln_1": "attention_norm",
    "ln_2": "feed_norm",
    "mlp.0": "feed.inner",
    "mlp.3": "feed.outer",
    "mlp.linear_1": "feed.inner",  # its published files
    "mlp.linear_2": "feed.outer",
    "encoder.ln": "norm",
    "heads.head": "head",
}
LAYOUTS = {  # name -> a tensor that only it has, what may stand before the body's names, and the names
    "Hugging Face ViT": (r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.weight", "vit.", HUGGING_FACE),
    "torchvision ViT": (r"encoder\.pos_embedding", "", TORCHVISION),
}


class Embedding(nn.Module):
    """Eq. 1: (B, C, size, size) to (B, 1 + N, D). A convolution whose stride is its kernel is E for every patch."""

    def __init__(self, channels: int, width: int, image_size: int, patch: int, dropout: float, positions: str):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = Positions(positions, width, 1 + (image_size // patch) ** 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, D, size / P, size / P) -> (B, N, D), row by row
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.dropout(self.positions(x))


class Head(nn.Linear):
    """One layer of zeros, whenever it is made anew."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class ViT(nn.Module):
    """Classifier of pictures of one size.

    >>> net = ViT(num_classes=10, width=192, image_size=32, patch=4, heads=3, depth=9)
    >>> sum(p.numel() for p in net.parameters())  # 9,408 + 192 + 12,480 + 9 * 444,864 + 384 + 1,930
    4028170
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Args:
        num_classes: 0 gives features (B, D).
        image_size: height and width of the pictures, a multiple of `patch`.
        hidden: units between the two dense layers, 4 * width where None.
        positions: learned, as in the paper; or sinusoid, along the rows; or none (appendix D.4).
    Raises:
        ValueError: sizes that do not fit each other, no such positions, or pictures of another size.
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)
    all_heads: ClassVar[tuple[str, ...]] = (*heads, "pooler")

    def __init__(
        self,
        channels: int = 3,
        num_classes: int = 1000,
        width: int = 768,
        image_size: int = 224,
        patch: int = 16,
        heads: int = 12,
        depth: int = 12,
        hidden: int | None = None,
        dropout: float = 0.0,
        positions: str = "learned",
        eps: float = 1e-6,
    ):
        super().__init__()
        if image_size < patch or image_size % patch:
            raise ValueError(f"image_size={image_size} is not a multiple of patch={patch}")
        if positions not in KINDS:
            raise ValueError(f"positions={positions!r} is not one of {', '.join(KINDS)}")
        self.size = image_size
        how: dict[str, Any] = {"dropout": dropout, "attention_dropout": 0.0, "hidden_dropout": dropout}
        how |= {"activation": "gelu", "norm": "pre", "eps": eps}
        self.embedding = Embedding(channels, width, image_size, patch, dropout, positions)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden or 4 * width, **how) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps)
        self.head = Head(width, num_classes) if num_classes else nn.Identity()
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != (self.size, self.size):
            raise ValueError(f"pictures are {x.shape[2]}x{x.shape[3]}, and the net is for {self.size}x{self.size}")
        x = self.embedding(x)  # (B, C, size, size) -> (B, 1 + N, D)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(self.norm(x[:, 0]))  # (B, D) -> (B, num_classes)

    def attention_maps(self, *inputs: Any) -> tuple[Any, dict[str, Tensor]]:
        """Of `forward`'s inputs: its output, and each layer's weights (B, H, 1 + N, 1 + N) by name."""
        return attention_maps(self, *inputs)

    def adopted(self, state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
        """Hugging Face's and torchvision's ViT under our names and in our shapes; or "" and the state itself."""
        for layout, (mark, body, names) in LAYOUTS.items():
            found = [re.fullmatch(rf"((?:module\.|model\.)*){mark}", name) for name in state]
            for wrapper in [match.group(1) for match in found if match]:
                return layout, _split({_named(n.removeprefix(wrapper), body, names): v for n, v in state.items()})
        return "", state


def _named(name: str, body: str, names: dict[str, str]) -> str:
    name = name.removeprefix(body)
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def _split(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values apart where they are one tensor, and positions (1, 1 + N, D) as a table."""
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if ".in_proj." in name:
            parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
            ours |= {name.replace("in_proj", part): each for part, each in parts}
        else:
            ours[name] = value.flatten(0, 1) if name == "embedding.positions.table.weight" else value
    return ours


def initialize(net: ViT) -> None:
    """The authors' initial weights."""
    for layer in net.layers.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    patches = net.embedding.patches
    nn.init.normal_(patches.weight, std=patches.weight[0].numel() ** -0.5)
    nn.init.zeros_(patches.bias)  # type: ignore[arg-type]  # it has one
    nn.init.zeros_(net.embedding.token)
    if net.embedding.positions.table is not None:
        nn.init.normal_(net.embedding.positions.table.weight, std=0.02)
