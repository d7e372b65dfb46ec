"""Elman's recurrent net: a state that is made anew at each step, out of the input and the state before.

Elman, "Finding Structure in Time", Cognitive Science 14, 1990.

    h_t = tanh(W x_t + b + U h_(t-1) + b')

Through T steps the gradient is multiplied T times by U and by tanh': it vanishes or explodes with T (Bengio, Simard,
Frasconi 1994). With ReLU and `recurrent_init="identity"` this is the IRNN of Le, Jaitly, Hinton 2015, arXiv:1504.00941,
which keeps its state as it is at first.

    one layer of H units over I inputs a step   H (I + H + 2) parameters; an LSTM has four times as many, a GRU three

Departures: Elman's units were sigmoids, and no gradient went back through time.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.recurrent import Recurrent, State, stacked

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


class RNN(Recurrent):
    """See `Recurrent`.

    Args:
        nonlinearity: "tanh" or "relu".
        written: step by step in Python instead of torch's kernel; the same numbers.

    >>> net = RNN()
    >>> sum(p.numel() for p in net.parameters())  # 128 * (2 + 128 + 2) + 129
    17025
    >>> outputs, state = net(torch.randn(4, 50, 2))
    >>> outputs.shape, state[0].shape
    (torch.Size([4, 1]), torch.Size([4, 1, 128]))
    """

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
        nonlinearity: str = "tanh",
        recurrent_init: str = "default",
        written: bool = False,
    ):
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity={nonlinearity!r} is not one of {', '.join(NONLINEARITIES)}")
        activation = NONLINEARITIES[nonlinearity]
        kernel, shape = partial(nn.RNN, nonlinearity=nonlinearity), (width, depth, dropout, bidirectional)
        layers = stacked(None if written else kernel, partial(step, activation), 1, 1, *shape)
        what = (input_size, vocab_size, num_classes, width, bidirectional, embedding, pad_id)
        super().__init__(layers, *what, read, dropout, recurrent_init)


def step(nonlinearity: Callable[[Tensor], Tensor], given: Tensor, state: State, u: Tensor, b: Tensor) -> State:
    return (nonlinearity(given + F.linear(state[0], u, b)),)
