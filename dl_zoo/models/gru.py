"""The gated recurrent unit: one gate between the old state and a new one, one on what the new one sees of the old.

Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio, "Learning Phrase Representations using RNN
Encoder-Decoder for Statistical Machine Translation", 2014, arXiv:1406.1078, section 2.3.

    r, z = sigmoid(W x_t + b + U h_(t-1) + b')
    n_t = tanh(W_n x_t + b_n + r * (U_n h_(t-1) + b'_n))     reset="after": torch's and cuDNN's
    n_t = tanh(W_n x_t + b_n + U_n (r * h_(t-1)) + b'_n)     reset="before": the paper's (v3)
    h_t = (1 - z) * n_t + z * h_(t-1)

With the gate behind the product one product does for all gates, which is why the kernels have it there.

    one layer of H units over I inputs a step   3 H (I + H + 2) parameters, three quarters of an LSTM's

Departures: `reset` is "after" unless said otherwise; biases, which the paper's equations leave out.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.recurrent import Recurrent, State, stacked

RESETS = ("after", "before")


class GRU(Recurrent):
    """See `Recurrent`.

    Args:
        reset: the reset gate acts "after" the product with the state, or "before" it.
        written: step by step in Python instead of torch's kernel; the same numbers. With reset="before" it always is.

    >>> import torch
    >>> net = GRU()
    >>> sum(p.numel() for p in net.parameters())  # 3 * 128 * (2 + 128 + 2) + 129
    50817
    >>> outputs, state = net(torch.randn(4, 50, 2))
    >>> outputs.shape, state[0].shape
    (torch.Size([4, 1]), torch.Size([4, 1, 128]))
    """

    gates = ("reset", "update", "")

    def __init__(
        self,
        input_size: int | None = 2,
        vocab_size: int | None = None,
        num_classes: int = 1,
        width: int = 128,
        depth: int = 1,
        bidirectional: bool = False,
        embedding: int | None = None,
        pad_id: int | None = None,
        read: str = "last",
        dropout: float = 0.0,
        reset: str = "after",
        recurrent_init: str = "default",
        written: bool = False,
    ):
        if reset not in RESETS:
            raise ValueError(f"reset={reset!r} is not one of {', '.join(RESETS)}")
        kernel, shape = None if written or reset == "before" else nn.GRU, (width, depth, dropout, bidirectional)
        layers = stacked(kernel, step if reset == "after" else step_of_2014, 3, 1, *shape)
        what = (input_size, vocab_size, num_classes, width, bidirectional, embedding, pad_id)
        super().__init__(layers, *what, read, dropout, recurrent_init)


def step(given: Tensor, state: State, u: Tensor, b: Tensor) -> State:
    (h,) = state
    x_r, x_z, x_n = given.chunk(3, 1)
    h_r, h_z, h_n = F.linear(h, u, b).chunk(3, 1)
    z = (x_z + h_z).sigmoid()
    return ((1 - z) * (x_n + (x_r + h_r).sigmoid() * h_n).tanh() + z * h,)


def step_of_2014(given: Tensor, state: State, u: Tensor, b: Tensor) -> State:
    (h,) = state
    width = h.shape[1]
    of_gates, of_candidate = given.split([2 * width, width], 1)
    r, z = (of_gates + F.linear(h, u[: 2 * width], b[: 2 * width])).sigmoid().chunk(2, 1)
    n = (of_candidate + F.linear(r * h, u[2 * width :], b[2 * width :])).tanh()
    return ((1 - z) * n + z * h,)
