"""How well a net guesses hidden tokens of a text: a causal net from those on the left, a masked one from both sides.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019,
arXiv:1810.04805, section 3.1: a net that sees both sides of a word is strictly more powerful than one that sees the
left one. Losses that training logs do not show it, being of other places of the text.

Both kinds answer the same questions: tokens x_t of the same windows, drawn once and for all.

    causal   - log p(x_t | x_1 .. x_(t-1)),  every token on the left as it stands
    masked   - log p(x_t | the window, all tokens asked for hidden),  so it misses `share` of what it could see
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError


@torch.no_grad()
def gap_loss(task: Any, data: Any, *, share: float = 0.15, batches: int = 20) -> dict[str, float]:
    """Over `share` of the tokens of the first `batches` of validation, never a window's first.

        gap_loss/nll     nats a token
        gap_loss/acc     fraction guessed
        gap_loss/items   tokens

    Raises:
        UserError: a share not between 0 and 1, no batch, or a task that is neither masked nor causal.
    """
    if not 0 < share < 1 or batches < 1:
        raise UserError(f"share={share}, batches={batches}: a share lies between 0 and 1, and one batch is needed")
    device = next(task.net.parameters()).device
    loss, right, items = 0.0, 0, 0
    for index, (inputs, after) in enumerate(data.loader("val")):
        if index == batches:
            break
        if inputs.dim() != 2 or after.shape != inputs.shape:
            raise UserError("gap_loss: it asks about a text's tokens, and the targets of these data are others")
        asked = questions(inputs, after, share, index).to(device)  # (B, T)
        tokens = inputs.to(device)
        logits, wanted = guesses(task, tokens, asked)[asked], tokens[asked]  # (N, V), (N,)
        loss += float(F.cross_entropy(logits.float(), wanted, reduction="sum"))
        right += int((logits.argmax(1) == wanted).sum())
        items += len(wanted)
    if not items:
        raise UserError("no token was drawn; validation is too short, or share too small")
    return {"gap_loss/nll": loss / items, "gap_loss/acc": right / items, "gap_loss/items": float(items)}


def questions(tokens: Tensor, after: Tensor, share: float, index: int) -> Tensor:
    """Which tokens of a batch are asked for, bool (B, T): drawn by the batch's index, so the same for every net.

    A window's first has nothing on its left. `after` (B, T) are the tokens one place further on, -100 where the text
    has ended: what stands there in `tokens` may be filling.
    """
    asked = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(index)) < share
    asked[:, 0] = False
    return asked & (after.cpu() >= 0)


def guesses(task: Any, tokens: Tensor, asked: Tensor) -> Tensor:
    """Logits (B, T, V) of the token at each place, from what this kind of net may see."""
    if hasattr(task, "mask_id"):
        return logits_of(task.net(tokens.masked_fill(asked, task.mask_id)))
    if getattr(task, "writes", False):
        logits = logits_of(task.net(tokens))  # at place t for the token at t + 1
        return torch.cat([torch.zeros_like(logits[:, :1]), logits[:, :-1]], 1)
    raise UserError("it asks nets that fill gaps or write on; task=masked_language_modelling or language_modelling")


def logits_of(answer: Any) -> Tensor:
    """Of a net that gives logits, or `(logits, state)`."""
    return answer[0] if isinstance(answer, tuple) else answer
