"""What recurrent nets share: cells step by step where torch's kernels cannot be used, and a net around a stack of them.

Torch has fused kernels for Elman's cell, for the LSTM with a forget gate and for the GRU whose reset gate comes behind
the product with the state. `Unrolled` is any cell, one step after the other; its weights have the names and shapes of
torch's modules, so that either loads what the other saved, wherever both can compute it.

Letters: B sequences, T steps, I inputs a step, H width, L layers, D directions (1 or 2), G gates, K outputs.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.seq2seq import read

READS = ("last", "mean", "max", "all")
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
INITS = ("default", "orthogonal", "identity")
State = tuple[Tensor, ...]  # h, and of the LSTM c
Step = Callable[[Tensor, State, Tensor, Tensor], State]  # W x + b (B, G H), the state (B, H) each, U, b' -> the next


class Unrolled(nn.Module):
    """A stack of cells: `forward(x (B, T, I), mask, state)` gives outputs (B, T, D H) and last states (L D, B, H) each.

    Where the mask (B, T) is False the state stays as it is and the output is zero, as with packed sequences.
    """

    def __init__(
        self,
        step: Step,
        gates: int,
        states: int,
        inputs: int,
        width: int,
        depth: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ):
        super().__init__()
        self.step, self.states, self.width = step, states, width
        self.dropout, directions = nn.Dropout(dropout), ["", "_reverse"][: 1 + bidirectional]
        self.layers = [[f"l{layer}{direction}" for direction in directions] for layer in range(depth)]
        for layer, names in enumerate(self.layers):
            seen = width * len(directions) if layer else inputs
            columns_of: list[tuple[int, ...]] = [(seen,), (width,), (), ()]
            for name in names:
                for part, columns in zip(PARTS, columns_of, strict=True):
                    uniform = torch.empty(gates * width, *columns).uniform_(-(width**-0.5), width**-0.5)
                    self.register_parameter(f"{part}_{name}", nn.Parameter(uniform))

    def forward(self, x: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        ends: list[State] = []
        count = sum(map(len, self.layers))
        state = (x.new_zeros(count, len(x), self.width),) * self.states if state is None else state
        starts = iter(zip(*(each.unbind(0) for each in state), strict=True))
        for layer, names in enumerate(self.layers):
            x = self.dropout(x) if layer else x
            runs = [self.scan(name, x, mask, next(starts), -1 if name.endswith("reverse") else 1) for name in names]
            x = torch.cat([outputs for outputs, _ in runs], 2)
            ends += [state for _, state in runs]
        return x, tuple(torch.stack(each) for each in zip(*ends, strict=True))

    def scan(self, name: str, x: Tensor, mask: Tensor | None, state: State, direction: int) -> tuple[Tensor, State]:
        w, u, b, b_state = (getattr(self, f"{part}_{name}") for part in PARTS)
        given = F.linear(x, w, b).unbind(1)  # the inputs' share of all steps in one product
        kept = [None] * len(given) if mask is None else mask[:, :, None].unbind(1)
        outputs: list[Tensor] = []
        for one, is_step in list(zip(given, kept, strict=True))[::direction]:
            new = self.step(one, state, u, b_state)
            state = new if is_step is None else tuple(map(torch.where, (is_step,) * len(new), new, state))
            outputs.append(state[0])
        y = torch.stack(outputs[::direction], 1)
        return (y if mask is None else y * mask[:, :, None]), state


class Recurrent(nn.Module):
    """A stack of recurrent layers over numbers (B, T, I) or ids (B, T), and a linear layer on what it has read.

    Outputs (B, K), or with `read="all"` (B, T, K), one for each step; and the state behind the last step, a tuple of
    (B, L D, H), from which `state=` goes on. `num_classes=0`: what the last layer would take.

    `lengths` (B,) says how many steps of each sequence are no padding; None: of ids those up to the last that is not
    `pad_id`, and of numbers all. Padding changes nothing. Of an empty sequence one step of padding is read.

    Args:
        layers: from inputs a step to the stack: torch's, or `Unrolled`.
        input_size: numbers a step; or `vocab_size` ids, each a vector of `embedding` numbers, or one-hot without that.
        read: "last" state of each direction; "mean" or "max" of the outputs over the steps; "all".
        recurrent_init: of the weights between states: torch's, or of each gate "orthogonal" or "identity"
            (Le, Jaitly, Hinton 2015, arXiv:1504.00941, for ReLU), with biases 0.
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)
    gates: tuple[str, ...] = ()  # in the order of the weights; "" is what a gate lets through

    def __init__(
        self,
        layers: Callable[[int], nn.Module],
        input_size: int | None,
        vocab_size: int | None,
        num_classes: int,
        width: int,
        bidirectional: bool,
        embedding: int | None,
        pad_id: int | None,
        read: str,
        dropout: float,
        recurrent_init: str,
    ):
        super().__init__()
        if read not in READS:
            raise ValueError(f"read={read!r} is not one of {', '.join(READS)}")
        if recurrent_init not in INITS:
            raise ValueError(f"recurrent_init={recurrent_init!r} is not one of {', '.join(INITS)}")
        if (input_size is None) == (vocab_size is None):
            raise ValueError("exactly one of input_size and vocab_size must be given")
        self.vocab_size, self.pad_id, self.read, self.directions = vocab_size, pad_id, read, 1 + bidirectional
        self.embedding = nn.Embedding(vocab_size, embedding, pad_id) if vocab_size and embedding else None
        self.dropout = nn.Dropout(dropout)
        self.rnn = layers(embedding if vocab_size and embedding else vocab_size or input_size or 0)
        self.head = nn.Linear(width * self.directions, num_classes) if num_classes else nn.Identity()
        between_states(self.rnn, width, recurrent_init)

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        if lengths is not None and state is not None:
            raise ValueError("lengths or state: behind padding nothing goes on")
        if state is None and lengths is None and self.vocab_size and self.pad_id is not None:
            lengths = (torch.arange(1, x.shape[1] + 1, device=x.device) * (x != self.pad_id)).amax(1)
        lengths = None if lengths is None else lengths.clamp(min=1)
        mask = None if lengths is None else torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
        before = None if state is None else tuple(each.transpose(0, 1).contiguous() for each in state)
        y, after = self.states(self.vectors(x), lengths, mask, before)
        outputs = self.head(self.dropout(self.pooled(y, after[0], mask)))
        return outputs, tuple(each.transpose(0, 1) for each in after)

    def vectors(self, x: Tensor) -> Tensor:
        """(B, T, I)"""
        if self.vocab_size is None:
            return x
        if self.embedding is None:
            return F.one_hot(x, self.vocab_size).to(next(self.rnn.parameters()).dtype)
        return self.dropout(self.embedding(x))

    def states(
        self, x: Tensor, lengths: Tensor | None, mask: Tensor | None, before: State | None = None
    ) -> tuple[Tensor, State]:
        """Outputs (B, T, D H), zero in padding, and the last states (L D, B, H) each."""
        if not isinstance(self.rnn, nn.RNNBase):
            return self.rnn(x, mask, before)
        if before is None:
            return read(self.rnn, x, lengths)
        y, after = self.rnn(x, before if len(before) > 1 else before[0])
        return y, after if isinstance(after, tuple) else (after,)

    @torch.no_grad()
    def gate_values(self, x: Tensor) -> dict[str, Tensor]:
        """How far each gate of the first layer is open, 0 to 1, at each step: (B, T, H) each. In reading order."""
        rnn: Any = self.rnn
        vectors = self.vectors(x)
        state: State | None = None
        before = [vectors.new_zeros(len(x), rnn.weight_hh_l0.shape[1])]  # h_(t-1), (B, H)
        for t in range(x.shape[1] - 1):
            _, state = self(x[:, t : t + 1], state=state)
            before.append(state[0][:, 0])
        given = F.linear(vectors, rnn.weight_ih_l0, rnn.bias_ih_l0)
        given = given + F.linear(torch.stack(before, 1), rnn.weight_hh_l0, rnn.bias_hh_l0)  # (B, T, G H)
        parts = given.chunk(max(1, len(self.gates)), 2)
        return {name: part.sigmoid() for name, part in zip(self.gates, parts, strict=False) if name}

    def pooled(self, y: Tensor, h: Tensor, mask: Tensor | None) -> Tensor:
        if self.read == "all":
            return y
        if self.read == "last":
            return h[-self.directions :].transpose(0, 1).flatten(1)  # (D, B, H) -> (B, D H)
        if self.read == "max":
            return (y if mask is None else y.masked_fill(~mask[:, :, None], -torch.inf)).amax(1)
        return y.mean(1) if mask is None else y.sum(1) / mask.sum(1, keepdim=True)


def between_states(rnn: nn.Module, width: int, how: str) -> None:
    if how == "default":
        return
    for name, parameter in rnn.named_parameters():
        for gate in parameter.detach().split(width) if name.startswith("weight_hh") else ():
            nn.init.orthogonal_(gate) if how == "orthogonal" else nn.init.eye_(gate)
        if name.startswith("bias"):
            nn.init.zeros_(parameter)


def stacked(
    kernel: Callable[..., nn.Module] | None,
    step: Step,
    gates: int,
    states: int,
    width: int,
    depth: int,
    dropout: float,
    bidirectional: bool,
) -> Callable[[int], nn.Module]:
    """From inputs a step to the layers: torch's `kernel`, or None: `step` by step."""
    for name, value in {"width": width, "depth": depth}.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    between = dropout if depth > 1 else 0.0
    if kernel is None:
        return lambda inputs: Unrolled(step, gates, states, inputs, width, depth, between, bidirectional)
    return lambda inputs: kernel(inputs, width, depth, batch_first=True, dropout=between, bidirectional=bidirectional)
