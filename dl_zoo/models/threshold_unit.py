"""Nets of threshold units with weights set by hand: every gate can be wired, nothing has to be learnt.

McCulloch, Pitts, "A Logical Calculus of the Ideas Immanent in Nervous Activity", 1943, Bull. Math. Biophys. 5. A unit
fires, or does not:

    fires where  sum_i w_i x_i >= threshold,    x_i in {0, 1}

Of F inputs, n of them on, and, or, nand, nor and majority are one unit each. xor and xnor (n odd, n even) are not
(Minsky, Papert, "Perceptrons", 1969), but two layers are enough: hidden unit k fires where n >= k, for k = 1 .. F, and
the output adds them with alternating signs, which leaves 1 where n is odd and 0 where it is even.

Departs: in the paper one inhibitory input that is on silences its unit; here a negative weight subtracts.
"""

import torch
from torch import Tensor, nn


class ThresholdLayer(nn.Module):
    """Units of weights (out, in) and thresholds (out,): (B, in) of 0 and 1 -> (B, out) of 0 and 1."""

    weight: Tensor
    threshold: Tensor

    def __init__(self, weight: Tensor, threshold: Tensor):
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("threshold", threshold.float())

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T >= self.threshold).to(x.dtype)


class ThresholdUnit(nn.Module):
    """The net for a `gate` of `in_features` inputs: (B, F) -> logits (B, 2), (1, 0) where it rests and (0, 1) where it
    fires. An input is on where it is above 0, so inputs of -1 and +1 do as well as of 0 and 1.

    ValueError for an unknown gate, and for other than two classes.

    >>> net = ThresholdUnit(gate="xor")
    >>> sum(p.numel() for p in net.parameters())  # the weights are buffers
    0
    >>> net(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])).argmax(1).tolist()
    [0, 1, 1, 0]
    """

    def __init__(self, in_features: int = 2, num_classes: int = 2, gate: str = "xor"):
        super().__init__()
        if num_classes != 2:
            raise ValueError(f"num_classes={num_classes}: a threshold unit fires or does not, which is 2 classes")
        self.layers = nn.Sequential(*(ThresholdLayer(*layer) for layer in wiring(gate, in_features)))

    def forward(self, x: Tensor) -> Tensor:
        fires = self.layers((x.flatten(1) > 0).to(x.dtype))  # (B, 1)
        return torch.cat([1 - fires, fires], dim=1)  # (B, 2)


def wiring(gate: str, inputs: int) -> list[tuple[Tensor, Tensor]]:
    """Weights (out, in) and thresholds (out,) of each layer."""
    one = torch.ones(1, inputs)
    single = {  # sign of all weights, threshold
        "and": (1, inputs),
        "or": (1, 1),
        "nand": (-1, 1 - inputs),
        "nor": (-1, 0),
        "majority": (1, inputs // 2 + 1),
    }
    if gate in single:
        sign, threshold = single[gate]
        return [(sign * one, torch.tensor([threshold]))]
    if gate not in ("xor", "xnor"):
        raise ValueError(f"gate={gate!r} is not one of {', '.join(single)}, xor, xnor")
    at_least = torch.ones(inputs, inputs), torch.arange(1, inputs + 1)  # the layer of which unit k says n >= k
    signs = 1 - 2 * (torch.arange(inputs) % 2)[None]  # +1 -1 +1 ...: their sum over the units that fire is n mod 2
    return [at_least, (signs, torch.tensor([1])) if gate == "xor" else (-signs, torch.tensor([0]))]
