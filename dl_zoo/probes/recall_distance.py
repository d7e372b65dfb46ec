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
    """Over all questions of the test items: accuracy, by the distance back to what is asked for.

        recall_distance/0010, ...   fraction right where it stood 1 to 10 tokens before, 11 to 20, ...
        recall_distance/slope       accuracy of the farthest of them minus that of the nearest

    Raises:
        UserError: bounds that do not rise, a distance of which there is no question, or data that know of none.
    """
    bounds = [0, *upto]
    if len(upto) < 2 or any(type(b) is not int or a >= b for a, b in pairwise(bounds)):
        raise UserError(f"probe.recall_distance.upto={[*upto]}: must be two whole numbers at least, rising from 1")
    if not hasattr(data, "distances"):
        raise UserError("recall_distance: these data ask for nothing that stood before; data=recall_stream does")
    device = next(task.net.parameters()).device
    distances: list[Tensor] = []
    right: list[Tensor] = []
    for inputs, targets in data.loader("test"):
        answer = task.net(inputs.to(device))
        logits = answer[0] if isinstance(answer, tuple) else answer  # (B, T, K)
        answers, tokens, wanted = logits.argmax(2).cpu(), inputs.cpu(), targets.cpu()  # (B, T)
        asked = wanted >= 0
        distances.append(data.distances(tokens, wanted)[asked])
        right.append((answers == wanted)[asked])
    back, hits = torch.cat(distances), torch.cat(right).double()
    found = {}
    for low, high in pairwise(bounds):
        chosen = hits[(back > low) & (back <= high)]
        if not len(chosen):
            raise UserError(f"probe.recall_distance.upto={[*upto]}: nothing is asked {low + 1} to {high} tokens back")
        found[f"recall_distance/{high:04d}"] = float(chosen.mean())
    near, *_, far = found.values()
    return {**found, "recall_distance/slope": far - near}
