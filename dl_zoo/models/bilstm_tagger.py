"""A tagger that reads a sentence from both ends, and knows its words by sight and by spelling.

Ma, Hovy, "End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF", 2016, arXiv:1603.01354, sections 2 and 3:

    s_w = max over k of  F (c_(k-1), c_k, c_(k+1)) + b     the spelling of a word: windows over vectors of its
                                                           characters, the strongest answer of each filter (figure 1)
    x_t = (e_w, s_w)                                       the word's own vector, and that
    h_t = (LSTM forwards to t, LSTM backwards to t)        figure 3
    p(tag_t | sentence) = softmax(V h_t + b)

Spelling by convolution comes from dos Santos, Zadrozny, "Learning Character-level Representations for Part-of-Speech
Tagging", 2014, ICML, section 2; both directions from Graves, Schmidhuber 2005, who tag frames of speech. A softmax for
each word stands in place of the paper's conditional random field: its table 3 has 97.3 so for parts of speech on WSJ,
97.6 with the field. Word vectors are learned here, the paper starts from GloVe's.

`width` are the numbers that the output layer gets of each word, so the paper's two directions of 200 are 400. Without
`bidirectional` one direction forwards has all of them, and more weights than the two together; it sees no later word.

Letters: B sentences, T words, W characters of a word, E embedding, F filters, H width of a direction, D directions.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from dl_zoo.models.seq2seq import read

State = tuple[Tensor, ...]  # h and c behind each sentence's last word, (B, L D, H) each


class BiLSTMTagger(nn.Module):
    """Logits of each word's tag (B, T, K) and the last state, from words (B, T) and their characters (B, T, W), ids.

    `lengths` (B,), best on the CPU, says how many words of each sentence are no padding; None: all are. Characters that
    are `pad_id` are none. Padding changes nothing.

    Args:
        words, characters: how many of each there are.
        spelling: without it a word is its own vector alone, and `characters` are not looked at.
        filters: of the convolution over `window` characters.
        width: outputs of the LSTM for each word, of all directions together.
        dropout: on characters' vectors, before and behind the LSTM (section 3.2.3), and between its layers.

    >>> net = BiLSTMTagger(words=100, characters=30, num_classes=17)
    >>> sum(p.numel() for p in net.parameters())  # 10,000 + 30 * 30 + 2,730 + 2 * 4 * 200 * (130 + 200 + 2) + 401 * 17
    551647
    >>> logits, (h, c) = net(torch.ones(3, 7, dtype=torch.int64), torch.ones(3, 7, 5, dtype=torch.int64))
    >>> logits.shape, h.shape
    (torch.Size([3, 7, 17]), torch.Size([3, 2, 200]))
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(
        self,
        words: int = 3158,
        characters: int = 101,
        num_classes: int = 17,
        embedding: int = 100,
        character_embedding: int = 30,
        filters: int = 30,
        window: int = 3,
        width: int = 400,
        depth: int = 1,
        bidirectional: bool = True,
        spelling: bool = True,
        dropout: float = 0.5,
        pad_id: int = 0,
    ):
        super().__init__()
        directions = 1 + bidirectional
        if width < 1 or width % directions:
            raise ValueError(f"width={width} must be a multiple of the {directions} directions")
        if window % 2 == 0:
            raise ValueError(f"window={window} must be odd, to have a middle")
        self.pad_id = pad_id
        self.embedding = nn.Embedding(words, embedding, pad_id)
        shape = (characters, character_embedding, filters, window)
        self.spelling = Spelling(*shape, dropout, pad_id) if spelling else None
        between, seen = dropout if depth > 1 else 0.0, embedding + filters * spelling
        self.rnn = nn.LSTM(
            seen, width // directions, depth, batch_first=True, dropout=between, bidirectional=bidirectional
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        self.initialize()

    def initialize(self) -> None:
        """Section 3.1: vectors uniform with variance 1 / size, matrices as Glorot and Bengio have them, biases 0, and
        forget gates open (Gers, Schmidhuber, Cummins 2000): the second of a bias's four parts, i f g o."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                bound = (3 / module.embedding_dim) ** 0.5
                nn.init.uniform_(module.weight, -bound, bound)
                module.weight.detach()[self.pad_id].zero_()
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
                parameter.detach().chunk(4)[1].fill_(float(name.startswith("bias_ih")))

    def forward(self, words: Tensor, characters: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        x = self.embedding(words)  # (B, T, E)
        if self.spelling is not None:
            x = torch.cat([x, self.spelling(characters)], 2)  # (B, T, E + F)
        y, state = read(self.rnn, self.dropout(x), lengths)  # (B, T, D H)
        return self.head(self.dropout(y)), tuple(each.transpose(0, 1) for each in state)


class Spelling(nn.Module):
    """Of each word (B, T, W) a vector (B, T, F); of one without characters, zeros."""

    def __init__(self, characters: int, embedding: int, filters: int, window: int, dropout: float, pad_id: int):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = nn.Embedding(characters, embedding, pad_id)  # zeros for padding, as beyond the word's ends
        self.dropout = nn.Dropout(dropout)
        self.filters = nn.Conv1d(embedding, filters, window, padding=window // 2)

    def forward(self, characters: Tensor) -> Tensor:
        flat = characters.flatten(0, 1)  # (B T, W)
        is_one = (flat != self.pad_id)[:, None]  # (B T, 1, W)
        answers = self.filters(self.dropout(self.embedding(flat)).transpose(1, 2))  # (B T, F, W)
        strongest = answers.masked_fill(~is_one, -torch.inf).amax(2).masked_fill(~is_one.any(2), 0)
        return strongest.unflatten(0, characters.shape[:2])
