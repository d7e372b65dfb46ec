"""Sequence to sequence: one LSTM reads a sentence into a vector, another writes the translation out of it.

Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks", 2014, arXiv:1409.3215, sections 2 and 3.

    p(y_1, ..., y_T | x_1, ..., x_S) = prod_t p(y_t | v, y_1, ..., y_(t-1))              (eq. 1)

v is the reader's last state, h and c of every layer: all that the writer ever learns of the source. The source is read
backwards ("c b a" for a translation "alpha beta gamma"), which leaves the first words of both sentences close together
and raised the paper's score from 25.9 to 30.6 BLEU (section 3.3); `reverse_source=False` reads it forwards.

                 depth   width   embedding   vocabularies        parameters
    the paper    4       1000    1000        160,000 and 80,000  384,144,000   (it prints 384 million)
    defaults     2       256     256         8,000 for both        8,257,344

The defaults are for a CPU and a vocabulary that both languages share; their embeddings are still two, as in the paper.
All weights start uniform in +-0.08 (section 3.4). Departures: dropout between the layers and around them (Zaremba,
Sutskever, Vinyals 2014, arXiv:1409.2329), 0 unless asked for; torch's cell has two biases where one would do.

Letters: B sentences, S and T words of source and target, D embedding, W width, L depth, V vocabulary.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, Tensor]  # h and c, (B, L, W) each: the batch first, so that beam search can reorder it


class Seq2Seq(nn.Module):
    """Logits of the next word (B, T, V) and the writer's state, from source (B, S) and target (B, T), both ids.

    `lengths` (B,), best on the CPU, says how many words of each source are no padding; None: all are.

    >>> with torch.device("meta"):
    ...     net = Seq2Seq(80_000, embedding=1000, width=1000, depth=4, source_vocab_size=160_000)
    >>> sum(p.numel() for p in net.parameters())  # 160,000,000 + 80,000,000 + 2 * 4 * 8,008,000 + 80,080,000
    384144000
    >>> logits, (h, c) = Seq2Seq(100)(torch.zeros(3, 7, dtype=torch.int64), torch.zeros(3, 5, dtype=torch.int64))
    >>> logits.shape, h.shape
    (torch.Size([3, 5, 100]), torch.Size([3, 2, 256]))
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(
        self,
        vocab_size: int = 8000,
        embedding: int = 256,  # the paper's: 1000
        width: int = 256,  # 1000
        depth: int = 2,  # 4
        dropout: float = 0.0,
        reverse_source: bool = True,
        source_vocab_size: int | None = None,  # None: that of the target
    ):
        super().__init__()
        self.reverse_source = reverse_source
        between = dropout if depth > 1 else 0.0
        self.source_embedding = nn.Embedding(source_vocab_size or vocab_size, embedding)
        self.encoder = nn.LSTM(embedding, width, depth, batch_first=True, dropout=between)
        self.target_embedding = nn.Embedding(vocab_size, embedding)
        self.decoder = nn.LSTM(embedding, width, depth, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocab_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.08, 0.08)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        return self.decode(target, self.start(self.encode(source, lengths)))

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> State:
        """The vector v of (B, S): h and c at the end of each sentence."""
        if self.reverse_source:
            source = reversed_within(source, lengths)
        _, (h, c) = read(self.encoder, self.dropout(self.source_embedding(source)), lengths)
        return h.transpose(0, 1), c.transpose(0, 1)

    def start(self, memory: State) -> State:
        return memory

    def decode(self, target: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits after each of the next words (B, T), from where the state stands."""
        h, c = (each.transpose(0, 1).contiguous() for each in state)
        y, (h, c) = self.decoder(self.dropout(self.target_embedding(target)), (h, c))  # (B, T, D) -> (B, T, W)
        return self.head(self.dropout(y)), (h.transpose(0, 1), c.transpose(0, 1))


def reversed_within(source: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sentence backwards, its padding still behind it.

    >>> reversed_within(torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2]))
    tensor([[3, 2, 1],
            [5, 4, 0]])
    """
    if lengths is None:
        return source.flip(1)
    place = torch.arange(source.shape[1], device=lengths.device).expand(source.shape)
    mirrored = lengths[:, None] - 1 - place
    return source.gather(1, torch.where(mirrored < 0, place, mirrored).to(source.device))


def read(rnn: nn.RNNBase, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, S, ...), zero behind each sentence's end, and the states (layers, B, W) at its end.

    Sentences go in longest first, which is what packing asks for. An empty one counts as one word of padding.
    """
    lengths = None if lengths is None else lengths.cpu()  # where packing wants them
    if lengths is None or bool(lengths.min() == x.shape[1]):
        return _tupled(*rnn(x))
    order = lengths.argsort(descending=True, stable=True)
    ordered, back = x[order.to(x.device)], order.argsort().to(x.device)
    packed = pack_padded_sequence(ordered, lengths[order].clamp(min=1), batch_first=True)
    packed_outputs, state = _tupled(*rnn(packed))
    outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True, total_length=x.shape[1])
    return outputs[back], tuple(each[:, back] for each in state)


def _tupled(outputs: Any, state: Any) -> tuple[Any, tuple[Tensor, ...]]:
    return outputs, state if isinstance(state, tuple) else (state,)
