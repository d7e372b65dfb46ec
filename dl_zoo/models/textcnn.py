"""A convolution over words, and the largest answer of each filter anywhere in the sentence.

Kim, "Convolutional Neural Networks for Sentence Classification", 2014, arXiv:1408.5882, section 2. With x_i the vector
of word i, a filter w over h words and c_i = relu(w x_(i .. i + h - 1) + b),

    z = (max_i c_i for each filter),   y = softmax(V dropout(z) + b)                         (eqs. 2 to 5)

so a filter looks for one phrase of h words, wherever it stands: `phrases` tells which one it found.

    words               V_s x E, of which <pad> stays 0
    windows 3, 4, 5     100 filters each over h words
    linear              300 -> classes

Windows may hang over either end, by all but one word, as in the author's code. Those that hold padding alone do not
count, so padding changes nothing. CNN-rand of the paper, vectors that begin as random: uniform in +-0.25.

Departures: none in the net. The paper's norm of V's rows, at most 3, is regularizer=max_norm; its Adadelta is Adam.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextCNN(nn.Module):
    """Logits (B, K) from ids (B, T); `pad_id` fills the ends of short sentences.

    Args:
        windows: how many words filters look at, and `filters` how many of each there are.
        num_classes: K; 0 gives z, (B, filters * windows).

    >>> net = TextCNN(vocab_size=18765, num_classes=2)  # V_s of these reviews, in the paper's table 1
    >>> sum(p.numel() for p in net.parameters())  # 18765 * 300 + 100 * (3 + 4 + 5) * 300 + 300 + 300 * 2 + 2
    5990402
    >>> net(torch.tensor([[4, 5, 6, 0]])).shape
    torch.Size([1, 2])
    """

    heads = ("head",)

    def __init__(
        self,
        vocab_size: int = 18_765,
        num_classes: int = 2,
        embedding: int = 300,
        windows: Sequence[int] = (3, 4, 5),
        filters: int = 100,
        dropout: float = 0.5,
        pad_id: int | None = 0,
    ):
        super().__init__()
        if not windows or min(windows) < 1:
            raise ValueError(f"windows={[*windows]}: must be one length of at least 1 word, or several")
        self.pad_id, self.windows = pad_id, list(windows)
        self.embedding = nn.Embedding(vocab_size, embedding, pad_id)
        self.convs = nn.ModuleList(nn.Conv1d(embedding, filters, window) for window in windows)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters * len(windows), num_classes) if num_classes else nn.Identity()
        nn.init.uniform_(self.embedding.weight, -0.25, 0.25)
        if pad_id is not None:
            self.embedding.weight.detach()[pad_id].zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        z = torch.cat([answers.amax(2) for answers in self.answers(tokens)], 1)  # (B, filters * windows)
        return self.head(self.dropout(z))

    def answers(self, tokens: Tensor) -> list[Tensor]:
        """c of each window h: (B, filters, T + h - 1), from the place where only the last word of h is in the text."""
        x = self.embedding(tokens).transpose(1, 2)  # (B, E, T)
        real = torch.ones_like(tokens) if self.pad_id is None else tokens != self.pad_id  # (B, T)
        every = []
        for window, conv in zip(self.windows, self.convs, strict=True):
            over = window - 1
            c = conv(F.pad(x, (over, over))).relu()  # (B, filters, T + h - 1)
            some = F.max_pool1d(F.pad(real[:, None].to(c.dtype), (over, over)), window, stride=1)
            every.append(c * some)  # 0 is the least that a rectifier answers
        return every

    @torch.no_grad()
    def phrases(self, tokens: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        """Of each window h: h, and (B, filters) where the largest answer begins, from 1 - h on, and what it is."""
        best = zip(self.windows, self.answers(tokens), strict=True)
        return [(window, each.max(2).indices - window + 1, each.amax(2)) for window, each in best]
