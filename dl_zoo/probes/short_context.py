"""How much worse a language model guesses when it sees only the last few tokens: whether it uses the others.

Khandelwal, He, Qi, Jurafsky, "Sharp Nearby, Fuzzy Far Away: How Neural Language Models Use Context", 2018,
arXiv:1805.04623, section 4: the loss with the context cut to its last n tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.probes.ngram import long_text

BATCH = 250  # windows at once


@torch.no_grad()
def short_context(task: Any, data: Any, *, tokens: int = 4, items: int = 2000) -> dict[str, float]:
    """Loss on the same validation tokens, behind `data.context` tokens and behind the last `tokens` of those; nats.

        short_context/full, cut    means over `items` tokens, evenly spaced over the text; all where it has fewer
        short_context/gap          cut - full

    Raises:
        UserError: data that are not one long text, or `tokens` that are not from 1 to data.context.
    """
    ids, context = long_text(data, "val"), int(getattr(data, "context", 0))
    if not 1 <= tokens <= context:
        raise UserError(f"tokens={tokens}: must be from 1 to data.context={context}")
    if items < 1 or len(ids) <= context:
        raise UserError(f"items={items}: needs at least 1, and a text longer than data.context={context}")
    windows = ids.unfold(0, context + 1, 1)  # (N - T, T + 1): the tokens before, and the one to guess
    places = torch.linspace(0, len(windows) - 1, min(items, len(windows))).long()
    device = next(task.net.parameters()).device
    full, cut = 0.0, 0.0
    for some in places.split(BATCH):
        rows = windows[some].long().to(device)
        full += summed(task.net, rows)
        cut += summed(task.net, rows[:, -tokens - 1 :])
    full, cut = full / len(places), cut / len(places)
    return {"short_context/full": full, "short_context/cut": cut, "short_context/gap": cut - full}


def summed(net: Any, rows: Tensor) -> float:
    """- sum_b log p(x_b,T | x_b,1 .. x_b,T-1) of rows (B, T)."""
    answer = net(rows[:, :-1])
    logits = answer[0] if isinstance(answer, tuple) else answer  # (B, T - 1, V), or with a state
    return float(F.cross_entropy(logits[:, -1].float(), rows[:, -1], reduction="sum"))
