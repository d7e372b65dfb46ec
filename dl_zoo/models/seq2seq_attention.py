"""Attention: while it writes a word, the decoder looks up which words of the source it needs.

Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015, arXiv:1409.0473,
section 3 and appendices A and B.

A GRU reads the source forwards, another backwards; the annotation h_j of word j is both their states there. Before it
writes word t, the decoder in state s_(t-1) weighs the annotations, a soft alignment:

    e_tj = v . tanh(W s_(t-1) + U h_j),  a_tj = softmax_j(e_tj),  c_t = sum_j a_tj h_j    (eqs. 5, 6; appendix A.1.2)
    s_t  = GRU([y_(t-1), c_t], s_(t-1)),  s_0 = tanh(W_s h_1), h_1 read backwards         (appendix A.2.2)
    m_t  = max of pairs of (U_o s + V_o y_(t-1) + C_o c_t),  p(y_t) = softmax(W_o m_t)

                 embedding   width   maxout   vocabularies     parameters
    the paper    620         1000    500      30,000 for each  80,451,000
    defaults     256         256     128      8,000 for both    7,230,528

Where accounts differ: in m_t the main text's eq. 4 has the new state s_t, the appendix the old s_(t-1);
`output_state="old"` is the latter. Later nets often have no maxout: `maxout=0` gives state, word and context straight
to the output layer.

In a GRU (Cho et al. 2014, arXiv:1406.1078, section 2.3) a gate r says how much of the state the new one may see. The
papers put it before the product with the state, torch and cuDNN behind it, so that one product does for all gates:

    reset="before":  n = tanh(W_n x + U_n (r * s) + b),      reset="after":  n = tanh(W_n x + b + r * (U_n s + b'))
    r = sigmoid(W_r x + U_r s + b),  z likewise,  s' = (1 - z) * n + z * s   (Bahdanau's z is 1 - z)

Departures: `reset` is "after" unless said otherwise, since torch's GRU is several times faster, with packed sentences
and two biases a gate; dropout on embeddings and before the output layer, 0 unless asked for. The initial weights
are the paper's (appendix B.1): with v = 0 every source word has the same weight at first, and W and U learn from the
second step on.

Letters: B sentences, S and T words of source and target, E embedding, W width, A = W the alignment's, V vocabulary.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dl_zoo.models.seq2seq import read

OUTPUT_STATES = ("new", "old")
RESETS = ("after", "before")
Memory = tuple[Tensor, Tensor]  # annotations (B, S, 2 W); True where a word is no padding, (B, S)
State = tuple[Tensor, Tensor, Tensor, Tensor]  # s (B, W); U h (B, S, A) and the memory, which stay as they are


class AdditiveAttention(nn.Module):
    """While `maps` is a list, the weights (B, S) of each question are appended to it."""

    maps: list[Tensor] | None = None

    def __init__(self, width: int, memory: int):
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(memory, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, s: Tensor, keys: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """The context (B, 2 W) that state s (B, W) asks for."""
        scores = self.score(torch.tanh(self.query(s)[:, None] + keys)).squeeze(2)  # (B, S, A) -> (B, S)
        weights = scores.masked_fill(~mask, -torch.inf).softmax(1)
        if self.maps is not None:
            self.maps.append(weights.detach())
        return (weights[:, None] @ memory).squeeze(1)  # (B, 1, S) (B, S, 2 W)


class ChoCell(nn.Module):
    """A GRU's step whose reset gate comes before the product with the state; weights lie as `nn.GRUCell`'s, r z n."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * width, inputs))
        self.weight_hh = nn.Parameter(torch.empty(3 * width, width))
        self.bias = nn.Parameter(torch.zeros(3 * width))
        self.width = width

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """(B, I), (B, W) -> (B, W)"""
        return self.step(F.linear(x, self.weight_ih, self.bias), s)

    def step(self, given: Tensor, s: Tensor) -> Tensor:
        """`given` is what the word says, (B, 3 W): for a whole sentence one product."""
        gates, candidate = given.split([2 * self.width, self.width], 1)
        of_gates, of_candidate = self.weight_hh.split([2 * self.width, self.width])
        r, z = torch.sigmoid(gates + F.linear(s, of_gates)).chunk(2, 1)
        n = torch.tanh(candidate + F.linear(r * s, of_candidate))
        return (1 - z) * n + z * s


class ChoEncoder(nn.Module):
    """What a bidirectional GRU reads, with `ChoCell`: (B, S, E) -> (B, S, 2 W), zero where the mask (B, S) is False."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.forwards, self.backwards = ChoCell(inputs, width), ChoCell(inputs, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([self.read(self.forwards, x, mask, 1), self.read(self.backwards, x, mask, -1)], 2)

    def read(self, cell: ChoCell, x: Tensor, mask: Tensor, direction: int) -> Tensor:
        given = F.linear(x, cell.weight_ih, cell.bias).unbind(1)
        states, s = [], x.new_zeros(len(x), cell.width)
        for one, is_word in list(zip(given, mask[:, :, None].unbind(1), strict=True))[::direction]:
            s = torch.where(is_word, cell.step(one, s), s)  # backwards, padding comes first: the state stays 0
            states.append(s)
        return torch.stack(states[::direction], 1) * mask[:, :, None]


class Seq2SeqAttention(nn.Module):
    """Logits of the next word (B, T, V) and the decoder's state, from source (B, S) and target (B, T), both ids.

    `lengths` (B,), best on the CPU, says how many words of each source are no padding; None: all are.

    >>> with torch.device("meta"):
    ...     net = Seq2SeqAttention(30_000, embedding=620, width=1000, maxout=500)
    >>> # embeddings 2 * 18,600,000, encoder 2 * 4,866,000, s_0 1,001,000, alignment 3,001,000, decoder 10,866,000,
    >>> # maxout 3,621,000, output 15,030,000
    >>> sum(p.numel() for p in net.parameters())
    80451000
    >>> source, target = torch.ones(3, 7, dtype=torch.int64), torch.ones(3, 5, dtype=torch.int64)
    >>> logits, state = Seq2SeqAttention(100)(source, target)
    >>> logits.shape, state[0].shape
    (torch.Size([3, 5, 100]), torch.Size([3, 256]))
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(
        self,
        vocab_size: int = 8000,
        embedding: int = 256,  # the paper's: 620
        width: int = 256,  # 1000
        maxout: int = 128,  # 500
        dropout: float = 0.0,
        output_state: str = "new",
        reset: str = "after",  # the paper's: before
    ):
        super().__init__()
        if output_state not in OUTPUT_STATES:
            raise ValueError(f"output_state={output_state!r} is not one of {', '.join(OUTPUT_STATES)}")
        if reset not in RESETS:
            raise ValueError(f"reset={reset!r} is not one of {', '.join(RESETS)}")
        self.maxout, self.output_state = maxout, output_state
        self.source_embedding = nn.Embedding(vocab_size, embedding)
        self.encoder: nn.Module = ChoEncoder(embedding, width)
        if reset == "after":
            self.encoder = nn.GRU(embedding, width, batch_first=True, bidirectional=True)
        self.first_state = nn.Linear(width, width)
        self.attention = AdditiveAttention(width, 2 * width)
        self.target_embedding = nn.Embedding(vocab_size, embedding)
        self.decoder = (nn.GRUCell if reset == "after" else ChoCell)(embedding + 2 * width, width)
        known = width + embedding + 2 * width  # state, word, context
        self.mixed = nn.Linear(known, 2 * maxout) if maxout else nn.Identity()  # [U_o V_o C_o]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(maxout or known, vocab_size)
        initialize(self)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        return self.decode(target, self.start(self.encode(source, lengths)))

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> Memory:
        mask = torch.ones_like(source, dtype=torch.bool)
        if lengths is not None:
            words = torch.arange(source.shape[1], device=lengths.device)
            mask = (words < lengths.clamp(min=1)[:, None]).to(source.device)
        x = self.dropout(self.source_embedding(source))
        if isinstance(self.encoder, nn.GRU):
            return read(self.encoder, x, lengths)[0], mask
        return self.encoder(x, mask), mask

    def start(self, memory: Memory) -> State:
        annotations, mask = memory
        backwards = annotations[:, 0].chunk(2, 1)[1]  # (B, W): the state that has read the whole sentence
        return torch.tanh(self.first_state(backwards)), self.attention.key(annotations), annotations, mask

    def decode(self, target: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits after each of the next words (B, T), from where the state stands."""
        s, keys, annotations, mask = state
        words = self.dropout(self.target_embedding(target))  # (B, T, E)
        states, contexts = [s], []
        for y in words.unbind(1):
            contexts.append(self.attention(states[-1], keys, annotations, mask))
            states.append(self.decoder(torch.cat([y, contexts[-1]], 1), states[-1]))
        seen = states[1:] if self.output_state == "new" else states[:-1]
        known = torch.cat([torch.stack(seen, 1), words, torch.stack(contexts, 1)], 2)  # (B, T, W + E + 2 W)
        return self.output(known), (states[-1], keys, annotations, mask)

    def output(self, known: Tensor) -> Tensor:
        m = self.mixed(known)
        if self.maxout:
            m = m.unflatten(2, (self.maxout, 2)).max(3).values  # (B, T, 2 l) -> (B, T, l)
        return self.head(self.dropout(m))

    def attention_maps(self, *inputs: Any) -> tuple[tuple[Tensor, State], dict[str, Tensor]]:
        """What `forward(*inputs)` gives in evaluation mode, and the alignments: {"attention": (B, 1, T, S)}."""
        training = self.training
        maps: list[Tensor] = []
        self.attention.maps = maps
        try:
            with torch.no_grad():
                output = self.eval()(*inputs)
        finally:
            self.attention.maps = None
            self.train(training)
        return output, {"attention": torch.stack(maps, 1)[:, None]}


def initialize(net: Seq2SeqAttention) -> None:
    """Appendix B.1: N(0, 0.01^2); the states' matrices orthogonal, W and U N(0, 0.001^2), v and biases zero."""
    for name, parameter in net.named_parameters():
        if "bias" in name or name == "attention.score.weight":
            nn.init.zeros_(parameter)
        elif "weight_hh" in name:
            for gate in parameter.detach().chunk(3):
                nn.init.orthogonal_(gate)
        else:
            nn.init.normal_(parameter, std=0.001 if name.startswith("attention.") else 0.01)
