"""Does a net that writes from left to right look at what it has yet to write?

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 3.2.3: scores of later positions are set to
minus infinity before the softmax, "to preserve the auto-regressive property". Their weights are then 0 and not merely
small, so whatever stands there adds 0 to a sum, and earlier outputs stay as they are to the last bit.
"""

from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError


@torch.no_grad()
def leakage(task: Any, data: Any, *, draws: int = 20, items: int = 8) -> dict[str, float]:
    """What outputs (B, T, V) at positions up to t owe to the tokens after t, t drawn anew for each of `draws` inputs.

        leakage/earlier    largest change of an output up to t as all later tokens change; 0 where none is looked at
        leakage/later      largest change of one behind t, where that is least of all draws; 0: nothing was asked

    Tokens are drawn from the vocabulary, `items` sequences of the length of the first training batch. A translator's
    sources are that batch's; its targets are drawn.

    Raises:
        UserError: `draws` or `items` below 1, sequences of one token, or outputs that are not one a token.
    """
    for name, value in {"draws": draws, "items": items}.items():
        if value < 1:
            raise UserError(f"{name}={value}: must be at least 1")
    device, size = next(task.net.parameters()).device, data.dims["vocab_size"]
    first = next(iter(data.loader("train")))[0]
    parts = [part[:items].to(device) for part in (first if isinstance(first, tuple | list) else [first])]
    which = min(1, len(parts) - 1)  # of (source, target, lengths) the target
    shape = parts[which].shape
    if len(shape) != 2 or shape[1] < 2:
        raise UserError("leakage: it changes later tokens, and these data have no sequences of two and more")
    earlier, later = [], []
    for _ in range(draws):
        t = int(torch.randint(shape[1] - 1, ()))
        tokens = torch.randint(size, shape, device=device)
        changed = tokens.clone()
        changed[:, t + 1 :] = (tokens + torch.randint(1, size, shape, device=device))[:, t + 1 :] % size  # none stays
        pair = [outputs(task.net, [*parts[:which], each, *parts[which + 1 :]]) for each in (tokens, changed)]
        if pair[0].dim() != 3 or pair[0].shape[:2] != shape:
            raise UserError("leakage: this net does not give an output a token")
        change = (pair[1] - pair[0]).abs()  # (B, T, V)
        earlier.append(change[:, : t + 1].max())
        later.append(change[:, t + 1 :].max())
    return {"leakage/earlier": float(torch.stack(earlier).max()), "leakage/later": float(torch.stack(later).min())}


def outputs(net: Any, parts: list[Tensor]) -> Tensor:
    answer = net(*parts)
    return answer[0] if isinstance(answer, tuple) else answer  # states come second
