"""Long short-term memory: a cell that is added to and not made anew, so that gradients reach far back.

Hochreiter, Schmidhuber, "Long Short-Term Memory", 1997, Neural Computation 9; the forget gate is of Gers, Schmidhuber,
Cummins, "Learning to Forget: Continual Prediction with LSTM", 2000, Neural Computation 12.

    i, f, o = sigmoid(W x_t + U h_(t-1) + b),  g = tanh(...)
    c_t = f * c_(t-1) + i * g,  h_t = o * tanh(c_t)

Without a forget gate (`forget_gate=False`, the form of 1997) f is 1: nothing is ever lost, and nothing ever cleared.
With one, the gradient by the cell shrinks by f each step, so its bias should start high (`forget_bias`; Jozefowicz,
Zaremba, Sutskever 2015, section 5, on 1). With 1 it starts near sigmoid(1) = 0.73, and 0.73^20 is 0.002.

    one layer of H units over I inputs a step   4 H (I + H + 2) parameters; 3 H (I + H + 2) without forget gate

Departures: no peepholes from the cell to the gates (Gers, Schmidhuber 2000); gradients are not truncated; tanh where
1997 has scaled logistic functions; two biases.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.recurrent import Recurrent, State, stacked


class LSTM(Recurrent):
    """See `Recurrent`.

    Args:
        forget_gate: False leaves it out, and `forget_bias` with it.
        forget_bias: what the forget gate's two biases add up to at first; None: torch's, uniform around 0.
        written: step by step in Python instead of torch's kernel; the same numbers. Without forget gate it always is.

    >>> import torch
    >>> net = LSTM()
    >>> sum(p.numel() for p in net.parameters())  # 4 * 128 * (2 + 128 + 2) + 129
    67713
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
        forget_gate: bool = True,
        forget_bias: float | None = 1.0,
        recurrent_init: str = "default",
        written: bool = False,
    ):
        kernel, shape = None if written or not forget_gate else nn.LSTM, (width, depth, dropout, bidirectional)
        layers = stacked(kernel, step if forget_gate else step_of_1997, 3 + forget_gate, 2, *shape)
        what = (input_size, vocab_size, num_classes, width, bidirectional, embedding, pad_id)
        super().__init__(layers, *what, read, dropout, recurrent_init)
        self.gates = ("input", "forget", "", "output") if forget_gate else ("input", "", "output")
        if forget_gate and forget_bias is not None:
            open_forget_gates(self.rnn, forget_bias)


def step(given: Tensor, state: State, u: Tensor, b: Tensor) -> State:
    i, f, g, o = (given + F.linear(state[0], u, b)).chunk(4, 1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def step_of_1997(given: Tensor, state: State, u: Tensor, b: Tensor) -> State:
    i, g, o = (given + F.linear(state[0], u, b)).chunk(3, 1)
    c = state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def open_forget_gates(rnn: nn.Module, forget_bias: float) -> None:
    """The second of a bias's four parts, i f g o, is the forget gate's; one of the two biases carries all."""
    for name, parameter in rnn.named_parameters():
        if name.startswith("bias"):
            parameter.detach().chunk(4)[1].fill_(forget_bias if name.startswith("bias_ih") else 0.0)
