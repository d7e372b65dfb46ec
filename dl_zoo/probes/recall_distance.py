"""How far back a net finds what it is asked for.

Ba, Hinton, Mnih, Leibo, Ionescu, "Using Fast Weights to Attend to the Recent Past", 2016, arXiv:1610.06258, section
4.1: keys and values, then one of the keys again. Vaswani et al. 2017, arXiv:1706.03762, section 4: between two
positions attention has a path of one step whatever their distance, a recurrent layer one of as many steps.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError


@torch.no_grad()
def recall_distance(task: Any, data: Any, *, upto: Sequence[int] = (10, 20, 30, 40)) -> dict[str, float]:
    """Over all test items: accuracy at the last place, by the distance back to the symbol that stands there.

        recall_distance/0010, ...   fraction right where it stood 1 to 10 tokens before, 11 to 20, ...
        recall_distance/slope       accuracy of the farthest of them minus that of the nearest

    Raises:
        UserError: bounds that do not rise, a distance of which there is no item, or data of another kind.
    """
    bounds = [0, *upto]
    if len(upto) < 2 or any(a >= b for a, b in pairwise(bounds)):
        raise UserError(f"upto={[*upto]}: name two distances at least, rising from 1")
    device = next(task.net.parameters()).device
    distances: list[Tensor] = []
    right: list[Tensor] = []
    for inputs, targets in data.loader("test"):
        if not isinstance(inputs, Tensor) or inputs.dim() != 2 or targets.shape != inputs.shape:
            raise UserError("it asks about sequences of ids, and these data have none; data=associative_recall")
        answer = task.net(inputs.to(device))
        logits = answer[0] if isinstance(answer, tuple) else answer  # (B, T, K)
        right.append(logits[:, -1].argmax(1).cpu() == targets[:, -1].cpu())
        distances.append(distance(inputs.cpu()))
    back, hits = torch.cat(distances), torch.cat(right).double()
    found = {}
    for low, high in pairwise(bounds):
        chosen = hits[(back > low) & (back <= high)]
        if not len(chosen):
            raise UserError(f"upto={[*upto]}: no test item asks {low + 1} to {high} tokens back")
        found[f"recall_distance/{high:04d}"] = float(chosen.mean())
    near, *_, far = found.values()
    return {**found, "recall_distance/slope": far - near}


def distance(tokens: Tensor) -> Tensor:
    """Tokens (B, T) -> how many places before the last its symbol stood last, (B,); 0: nowhere.

    >>> distance(torch.tensor([[7, 1, 8, 2, 7], [7, 1, 8, 2, 8], [7, 1, 8, 2, 9]]))
    tensor([4, 2, 0])
    """
    same = tokens[:, :-1] == tokens[:, -1:]  # (B, T - 1)
    ahead = torch.arange(tokens.shape[1] - 1, 0, -1)  # places from each to the last
    return torch.where(same, ahead, tokens.shape[1]).amin(1) * same.any(1)
