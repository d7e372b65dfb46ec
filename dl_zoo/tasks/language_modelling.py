"""The next token from those before it: cross entropy over every position of a text.

With p the net's probabilities and T tokens that count (Bengio, Ducharme, Vincent, Jauvin, "A Neural Probabilistic
Language Model", 2003, JMLR 3, section 2),

    loss = - 1/T sum_t log p(x_t | x_1 .. x_{t-1})        ppl = exp(loss)        bpc = loss / ln 2

the last where a token is a character: bits a character, which texts and not vocabularies decide.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks.losses import IGNORED
from dl_zoo.tasks.task import Measured, Task


class LanguageModelling(Task):
    """Batches `(inputs (B, T), targets (B, T))`, int64; target -100 does not count. The net gives `(logits, state)`.

    The targets are the inputs one place further on; that is the data's affair. No state is carried from one batch to
    the next, so that a batch's loss depends on nothing but the batch. Metrics, as means over tokens: `loss` (nats),
    `ppl`, `acc` (fraction), and `bpc` where the tokens are characters. With label smoothing `train/loss` holds it and
    `train/nll` does not; perplexities never hold it.

    Args:
        characters: whether tokens are characters, so that bits a token are bits a character; or what they are, by name.
        label_smoothing: share of probability spread evenly over all tokens, in training alone (Szegedy et al. 2016,
            arXiv:1512.00567, section 7).
    """

    writes = True  # a text, given its beginning

    def __init__(self, *args: Any, characters: bool | str = False, label_smoothing: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.characters = characters in (True, "characters")
        self.label_smoothing = checked_share(label_smoothing)

    def measure(self, batch: tuple[Any, Tensor]) -> Measured:
        inputs, targets = batch
        logits = logits_of(self.net(inputs))  # (B, T, V)
        return token_measures(logits, targets, self.label_smoothing if self.training else 0.0)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        return with_perplexity(means, self.characters)


# ---- what tasks of tokens share ------------------------------------------------------------------------------------


def logits_of(answer: Any) -> Tensor:
    """Of a net that gives logits, or `(logits, state)`."""
    return answer[0] if isinstance(answer, tuple) else answer


def token_measures(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Measured:
    """Mean cross entropy over the tokens whose target counts, 0 where none does, and sums `loss`, `acc`.

    With smoothing `loss` holds it, and a third sum, `nll`, does not.

    Args:
        logits: (B, T, K).
        targets: (B, T).
    """
    flat, wanted = logits.flatten(0, 1).float(), targets.flatten()  # (B*T, K), (B*T,)
    total = F.cross_entropy(flat, wanted, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum")
    items = (wanted != IGNORED).sum()
    shown = logits.detach()
    sums = {"loss": total.detach(), "acc": (shown.argmax(-1) == targets).sum()}
    if smoothing:
        with torch.no_grad():
            sums["nll"] = F.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="sum")
    return Measured(total / items.clamp(min=1), sums, items, shown)


def with_perplexity(means: dict[str, float], characters: bool = False) -> dict[str, float]:
    """
    >>> {name: round(value, 3) for name, value in with_perplexity({"loss": math.log(8)}, characters=True).items()}
    {'loss': 2.079, 'ppl': 8.0, 'bpc': 3.0}
    """
    if not means:
        return means
    nll = means.get("nll", means["loss"])
    bits = {"bpc": nll / math.log(2)} if characters else {}
    return {**means, "ppl": math.exp(min(nll, 700.0)), **bits}  # e^700 is near the largest float


def checked_share(label_smoothing: float) -> float:
    if not 0 <= label_smoothing < 1:
        raise UserError(f"task.label_smoothing={label_smoothing}: must be at least 0 and below 1")
    return label_smoothing
