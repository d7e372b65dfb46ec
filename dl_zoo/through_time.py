"""How far back a recurrent net's last state depends on what it carried: the norm of dh_T / ds_t by the lag T - t.

Hochreiter 1991; Bengio, Simard, Frasconi, "Learning Long-Term Dependencies with Gradient Descent is Difficult", 1994,
IEEE Trans. Neural Networks 5(2), section III; Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 2.1. By the chain
rule it is a product of T - t Jacobians; where their norms stay below 1 it falls as a constant to the power of the lag,
and an error of now teaches nothing of then.

Any net goes whose `forward(x (B, T, ...), state=state)` gives `(outputs, state)`, a tuple of (B, L D, H), its outputs'
layer last. Of a bidirectional net one direction has read nothing yet where the other has all: it has no such lag.
"""

from typing import Any

import torch
from torch import Tensor

DRAWS = 8  # of the vectors that the Jacobians are multiplied by


def gradient_norms(net: Any, x: Tensor) -> Tensor:
    """(T,): the Frobenius norm of dh_T / ds_(T-k), lags k = 0 .. T - 1, as a mean over B sequences.

    h is the state of the last layer; s all that the net carries on, of an LSTM cells and outputs: what it remembers
    goes by the cells. The norm is estimated from products with normal vectors v, as E |v^T J|^2 = |J|^2 (Hutchinson
    1990): of an orthogonal J of width H it is sqrt(H), and 1 after division by the norm at lag 0.
    """
    states, state = [], None
    with torch.backends.cudnn.flags(enabled=False):  # its kernels are differentiated in training mode alone
        for t in range(x.shape[1]):
            _, state = net(x[:, t : t + 1], state=state)
            if t == 0:  # in a graph even where no weight learns
                state = tuple(each.detach().requires_grad_() for each in state)
            states.append(state)
    last = states[-1][0][:, -1]  # (B, H)
    own = torch.Generator().manual_seed(0)
    squares = last.new_zeros(len(states), len(x))
    for _ in range(DRAWS):
        vector = torch.randn(last.shape, generator=own).to(last)
        parts = [each for carried in states for each in carried]
        every = torch.autograd.grad(last, parts, vector, retain_graph=True, materialize_grads=True)
        sizes = torch.stack([grad.square().flatten(1).sum(1) for grad in every])  # (T * parts, B)
        squares += sizes.view(len(states), -1, len(x)).sum(1) / DRAWS
    return squares.sqrt().mean(1).flip(0)
