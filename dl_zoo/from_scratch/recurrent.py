"""Recurrent cells written out, unrolled over time, with backpropagation through time by hand.

Elman, "Finding Structure in Time", 1990; Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, with the forget
gate of Gers, Schmidhuber, Cummins 2000; Cho et al. 2014, arXiv:1406.1078, section 2.3. Each cell goes forwards one step
and says what its step needs on the way back; `unroll` and `through_time` do the rest for all of them.

Backwards, dh_t, the loss's gradient by h_t, comes from the output at t and from step t + 1. A step turns it into the
gradient by what was summed before the non-linearities, da_t, and by the state before, dh_(t-1); and since the same
weights act at each step, theirs is a sum over time:

    dW = sum_t da_t^T x_t,  dU = sum_t da_t^T h_(t-1),  db = sum_t da_t,  dx_t = da_t W

Letters: B sequences, T steps, I inputs, H width, G gates; W (G H, I), U (G H, H), b and b' (G H,), stacked in torch's
order: i f g o of the LSTM, r z n of the GRU.
"""

from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]  # h, and of the LSTM c, (B, H) each; gradients by them, and what a step keeps, likewise


class Weights(NamedTuple):
    """Of one layer, or their gradients."""

    w: Tensor  # (G H, I), of the input
    u: Tensor  # (G H, H), of the state
    b: Tensor  # (G H,)
    b_state: Tensor  # (G H,): torch adds a second bias, which a GRU with its reset gate behind the product needs


def sigmoid(a: Tensor) -> Tensor:
    """
    >>> sigmoid(torch.tensor([-1000.0, 0.0]))
    tensor([0.0000, 0.5000])
    """
    return 0.5 * (1 + torch.tanh(a / 2))  # 1 / (1 + exp(-a)), without its overflow


class RNN:
    """Elman's: h_t = tanh(W x_t + b + U h_(t-1) + b')."""

    gates = states = 1

    def forward(self, given: Tensor, state: State, p: Weights) -> tuple[State, State]:
        h = torch.tanh(given + state[0] @ p.u.T + p.b_state)
        return (h,), (h,)

    def backward(self, error: State, kept: State, state: State, p: Weights) -> tuple[State, Tensor, Tensor]:
        """From (dh_t,): (dh_(t-1),), the gradient by W x_t + b, and the gradient by U h_(t-1) + b'."""
        da = error[0] * (1 - kept[0] ** 2)  # tanh' = 1 - tanh^2
        return (da @ p.u,), da, da


class LSTM:
    """A cell c that is added to, not multiplied through: its gradient passes by as it is where the forget gate is open.

    i, f, o = sigmoid(...), g = tanh(...),  c_t = f c_(t-1) + i g,  h_t = o tanh(c_t);  `forget_gate=False`: f = 1.
    """

    states = 2

    def __init__(self, forget_gate: bool = True):
        self.forget_gate, self.gates = forget_gate, 4 if forget_gate else 3

    def forward(self, given: Tensor, state: State, p: Weights) -> tuple[State, State]:
        a = (given + state[0] @ p.u.T + p.b_state).chunk(self.gates, 1)
        i, g, o = sigmoid(a[0]), torch.tanh(a[-2]), sigmoid(a[-1])
        f = sigmoid(a[1]) if self.forget_gate else torch.ones_like(i)
        c = f * state[1] + i * g
        return (o * torch.tanh(c), c), (i, f, g, o, torch.tanh(c))

    def backward(self, error: State, kept: State, state: State, p: Weights) -> tuple[State, Tensor, Tensor]:
        i, f, g, o, tanh_c = kept
        dh, dc = error
        dc = dc + dh * o * (1 - tanh_c**2)  # c_t is in h_t, and in c_(t+1)
        da_i, da_g = dc * g * i * (1 - i), dc * i * (1 - g**2)  # sigmoid' = s (1 - s)
        da_f, da_o = dc * state[1] * f * (1 - f), dh * tanh_c * o * (1 - o)
        da = torch.cat([da_i, *([da_f] if self.forget_gate else []), da_g, da_o], 1)
        return (da @ p.u, dc * f), da, da  # dc_(t-1) = f dc_t: no weight, no non-linearity between


class GRU:
    """Between the old state and a new one, n, a gate z chooses; a gate r says how much of the old one n may see.

    r, z = sigmoid(...),  h_t = (1 - z) n + z h_(t-1)
    reset="after":   n = tanh(W_n x + b_n + r (U_n h_(t-1) + b'_n))     torch's and cuDNN's
    reset="before":  n = tanh(W_n x + b_n + U_n (r h_(t-1)) + b'_n)     the paper's (v3), and the article's
    """

    gates, states = 3, 1

    def __init__(self, reset: str = "after"):
        self.reset = reset

    def forward(self, given: Tensor, state: State, p: Weights) -> tuple[State, State]:
        (h,) = state
        x_r, x_z, x_n = given.chunk(3, 1)
        u_r, u_z, u_n = p.u.chunk(3)
        b_r, b_z, b_n = p.b_state.chunk(3)
        r, z = sigmoid(x_r + h @ u_r.T + b_r), sigmoid(x_z + h @ u_z.T + b_z)
        seen = h @ u_n.T + b_n if self.reset == "after" else (r * h) @ u_n.T + b_n
        n = torch.tanh(x_n + (r * seen if self.reset == "after" else seen))
        return ((1 - z) * n + z * h,), (r, z, n, seen)

    def backward(self, error: State, kept: State, state: State, p: Weights) -> tuple[State, Tensor, Tensor]:
        (r, z, n, seen), (h,), (dh,) = kept, state, error
        u_r, u_z, u_n = p.u.chunk(3)
        da_z = dh * (h - n) * z * (1 - z)
        da_n = dh * (1 - z) * (1 - n**2)
        if self.reset == "after":
            dr, ds_n = da_n * seen, da_n * r  # ds_n: by U_n h + b'_n
            back = ds_n @ u_n
        else:
            dr, ds_n = (da_n @ u_n) * h, da_n
            back = (da_n @ u_n) * r
        da_r = dr * r * (1 - r)
        dx, ds = torch.cat([da_r, da_z, da_n], 1), torch.cat([da_r, da_z, ds_n], 1)
        return (dh * z + da_r @ u_r + da_z @ u_z + back,), dx, ds

    def seen_by_state(self, kept: State, state: State) -> Tensor:
        """What U_n is multiplied by: r h where the gate comes before the product, else h."""
        return kept[0] * state[0] if self.reset == "before" else state[0]


Cell = RNN | LSTM | GRU


def unroll(cell: Cell, x: Tensor, p: Weights) -> tuple[Tensor, list[State], list[State]]:
    """Outputs (B, T, H) for x (B, T, I) from a state of zeros; all T + 1 states; what each step keeps."""
    zeros = x.new_zeros(len(x), p.u.shape[1])
    states: list[State] = [(zeros,) * cell.states]
    kept: list[State] = []
    for x_t in x.unbind(1):
        state, needs = cell.forward(x_t @ p.w.T + p.b, states[-1], p)
        states.append(state)
        kept.append(needs)
    return torch.stack([state[0] for state in states[1:]], 1), states, kept


def through_time(
    cell: Cell, error: Tensor, x: Tensor, states: list[State], kept: list[State], p: Weights
) -> tuple[Tensor, Weights]:
    """From `error`, the loss's gradient by the outputs (B, T, H): that by x (B, T, I), and that by the weights."""
    grads, dx = Weights(*(torch.zeros_like(each) for each in p)), torch.zeros_like(x)
    future: State = tuple(torch.zeros_like(each) for each in states[0])
    for t in reversed(range(x.shape[1])):
        here = (error[:, t] + future[0], *future[1:])  # dh_t: from the output, and from step t + 1
        future, da, ds = cell.backward(here, kept[t], states[t], p)
        dx[:, t] = da @ p.w
        grads.w.add_(da.T @ x[:, t])
        grads.u.add_(by_state(cell, ds, kept[t], states[t]))
        grads.b.add_(da.sum(0))
        grads.b_state.add_(ds.sum(0))
    return dx, grads


def by_state(cell: Cell, ds: Tensor, kept: State, state: State) -> Tensor:
    """One step's share of dU: ds^T h_(t-1), and for a GRU's n what U_n was multiplied by."""
    if not isinstance(cell, GRU):
        return ds.T @ state[0]
    gates, candidate = ds.split([2 * len(state[0].T), len(state[0].T)], 1)
    return torch.cat([gates.T @ state[0], candidate.T @ cell.seen_by_state(kept, state)])


def gradient_norms(cell: Cell, x: Tensor, p: Weights) -> Tensor:
    """(T,): the Frobenius norm of dh_T / dh_(T-k), lags k = 0 .. T - 1, a mean over the sequences.

    Of an LSTM by (h, c) together, since what it remembers passes through c. Bengio, Simard, Frasconi, "Learning
    long-term dependencies with gradient descent is difficult", 1994, section III.
    """
    _, states, kept = unroll(cell, x, p)
    width = p.u.shape[1]
    rows = torch.eye(width, dtype=x.dtype, device=x.device).repeat(
        len(x), 1
    )  # a row for each unit of h_T of each sequence
    spread = [tuple(each.repeat_interleave(width, 0) for each in state) for state in states]
    future: State = (rows, *(torch.zeros_like(rows) for _ in range(cell.states - 1)))
    norms = []
    for t in reversed(range(x.shape[1])):
        norms.append(sum(each.unflatten(0, (-1, width)).square().sum((1, 2)) for each in future).sqrt().mean())
        needs = tuple(each.repeat_interleave(width, 0) for each in kept[t])
        future, _, _ = cell.backward(future, needs, spread[t], p)
    return torch.stack(norms)
