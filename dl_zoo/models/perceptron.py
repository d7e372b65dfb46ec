"""The perceptron: a threshold unit that learns its weights from its mistakes.

Rosenblatt, "The Perceptron: A Probabilistic Model for Information Storage and Organization in the Brain", 1958, Psych.
Review 65(6). Here is its one layer that learns, the response units over their inputs; the random connections before it,
which the paper calls projection and association areas, are left out: features are the data's.

    s = w . x + b,    class 1 where s > 0, else class 0

The rule that trains it is the task's (`tasks.perceptron`). Weights start at zero, as they do in the theorem of
Novikoff, "On Convergence Proofs for Perceptrons", 1962, on the number of mistakes. At s = 0 the answer is class 0;
most texts let the unit fire there. After the first steps it rarely matters.

For K > 2 classes there are K units, of which the largest sum wins.
"""

import torch
from torch import Tensor, nn


class Perceptron(nn.Module):
    """Classifier of flattened inputs. Two classes share one unit, and the logits are (0, s).

    The defaults are one response unit over the 20 x 20 photocells of the Mark I, the machine built after the paper.

    >>> net = Perceptron()
    >>> sum(p.numel() for p in net.parameters())  # 400 + 1
    401
    >>> sum(p.numel() for p in Perceptron(784, 10).parameters())  # 784 * 10 + 10
    7850
    """

    def __init__(self, in_features: int = 400, num_classes: int = 2):
        super().__init__()
        self.response = nn.Linear(in_features, 1 if num_classes == 2 else num_classes)
        nn.init.zeros_(self.response.weight)
        nn.init.zeros_(self.response.bias)

    def forward(self, x: Tensor) -> Tensor:
        s = self.response(x.flatten(1))  # (B, 1), or (B, K)
        return torch.cat([torch.zeros_like(s), s], dim=1) if s.shape[1] == 1 else s  # (B, num_classes)
