"""A stack of LSTMs that guesses the next character, again and again.

Graves, "Generating Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850, sections 2 and 3. The form is that
of char-rnn (Karpathy 2015, "The Unreasonable Effectiveness of Recurrent Neural Networks"): two layers, characters as
one-hot vectors, all weights uniform in +-0.08, forget gates open at first.

    i, f, o = sigmoid(W x_t + U h_(t-1) + b),  g = tanh(...)
    c_t = f * c_(t-1) + i * g,  h_t = o * tanh(c_t)                                      (eqs. 7 to 11)
    p(x_(t+1) | x_1, ..., x_t) = softmax(V h_t + b)                                      (eqs. 4 and 5)

Graves' cell has peephole weights from c to the gates, and skips from the input to every layer and from every layer to
the output; char-rnn has neither, nor have we. Forget gates' biases add up to `forget_bias` (Gers, Schmidhuber, Cummins
2000; Jozefowicz, Zaremba, Sutskever 2015, section 5: 1 is a good start).

`embedding=None` is the one-hot input; a number makes it a learned vector of that size, as words need it. `tied=True`
uses that table as the output layer, too (Press, Wolf 2017, arXiv:1608.05859), for which it must be `width` wide.

Letters: B texts, T characters, W width, L depth, V vocabulary.
"""

import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # h and c, (B, L, W) each


class CharLSTM(nn.Module):
    """Logits of the next symbol (B, T, V) and the state after the last, from ids (B, T). Any length goes.

    >>> import torch
    >>> net = CharLSTM(vocab_size=65)
    >>> sum(p.numel() for p in net.parameters())  # 4 * 512 * (65 + 512 + 2) + 4 * 512 * (512 + 512 + 2) + 513 * 65
    3320385
    >>> logits, (h, c) = net(torch.zeros(3, 7, dtype=torch.int64))
    >>> logits.shape, h.shape
    (torch.Size([3, 7, 65]), torch.Size([3, 2, 512]))
    """

    def __init__(
        self,
        vocab_size: int = 65,
        width: int = 512,
        depth: int = 2,
        dropout: float = 0.0,
        embedding: int | None = None,
        tied: bool = False,
        forget_bias: float = 1.0,
    ):
        super().__init__()
        if tied and embedding != width:
            raise ValueError(f"tied=True needs embedding={width}, as wide as the states; it is {embedding}")
        self.vocab_size, self.tied = vocab_size, tied
        self.heads = () if tied else ("head",)
        self.embedding = nn.Embedding(vocab_size, embedding) if embedding else None
        between = dropout if depth > 1 else 0.0
        self.lstm = nn.LSTM(embedding or vocab_size, width, depth, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocab_size)
        if tied and self.embedding is not None:
            self.head.weight = self.embedding.weight
        initialize(self, forget_bias)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        x = self.vectors(tokens)
        if state is None:
            y, (h, c) = self.lstm(x)
        else:
            h, c = (each.transpose(0, 1).contiguous() for each in state)
            y, (h, c) = self.lstm(x, (h, c))  # (B, T, V or E) -> (B, T, W)
        return self.head(self.dropout(y)), (h.transpose(0, 1), c.transpose(0, 1))

    def vectors(self, tokens: Tensor) -> Tensor:
        if self.embedding is None:
            return F.one_hot(tokens, self.vocab_size).to(self.head.weight.dtype)
        return self.dropout(self.embedding(tokens))


def initialize(net: CharLSTM, forget_bias: float) -> None:
    """Torch's cell adds two biases of its gates i, f, g, o; one carries the whole of the forget gate's."""
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -0.08, 0.08)
    for name, parameter in net.lstm.named_parameters():
        if name.startswith("bias"):
            forget = parameter.detach().chunk(4)[1]
            forget.fill_(forget_bias if name.startswith("bias_ih") else 0.0)
