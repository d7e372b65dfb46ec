"""Hidden tokens from what stands on both sides of them: BERT's first objective.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019,
arXiv:1810.04805, section 3.1 and appendix A.1. Of the tokens 15 % are chosen; a chosen one becomes

    the mask            80 %
    a random token      10 %, so that the net must doubt every token it sees
    itself              10 %, which pulls its vector towards the word that stands there

and the loss is the mean of - log p(x_t | the changed text) over the chosen tokens alone.

Departures: each token is chosen by its own draw and not so many of each sequence, and all tokens of a batch are drawn
anew each time, where the authors' code writes ten fixed versions of its text to disk.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks.language_modelling import logits_of, token_measures, with_perplexity
from dl_zoo.tasks.losses import IGNORED
from dl_zoo.tasks.task import Measured, Task

SPECIAL = (0, 1, 2, 3)  # <pad> <bos> <eos> <unk>, in vocabularies that have padding


class MaskedLanguageModelling(Task):
    """Batches `(inputs (B, T), targets)`; these targets are not looked at. The net gives logits (B, T, V).

    In training the draws come of torch's global generator, whose state is in every checkpoint, so that a resumed run
    is the same run. In evaluation a batch's draws are seeded by its index: all epochs answer the same questions.
    Metrics, over the chosen tokens: `loss` (nats), `ppl`, `acc` (fraction).

    Args:
        vocab_size: V; all ids below it that are neither special nor the mask may be drawn as a random token.
        pad_id: of padding; None where the vocabulary has none, and then no special tokens either.
        mask_id: what stands for a hidden token; None: the last id, V - 1, which no text should hold: a token that has
            it is never chosen, nor drawn.
        special: ids that are never chosen nor drawn; None: the first four where there is padding, else none.
        share: of tokens that are chosen; `masked` and `random` are the shares of the chosen ones.
    """

    def __init__(
        self,
        *args: Any,
        vocab_size: int,
        pad_id: int | None = None,
        mask_id: int | None = None,
        special: Sequence[int] | None = None,
        share: float = 0.15,
        masked: float = 0.8,
        random: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.is_guess = mask_id is None
        self.mask_id = vocab_size - 1 if mask_id is None else mask_id
        if not 0 <= self.mask_id < vocab_size:
            raise UserError(f"task.mask_id={mask_id}: must be an id of the vocabulary, from 0 to {vocab_size - 1}")
        if not 0 < share <= 1:
            raise UserError(f"task.share={share}: must be above 0 and at most 1")
        if min(masked, random) < 0 or masked + random > 1:
            raise UserError(f"task.masked={masked}, task.random={random}: must be at least 0 and at most 1 together")
        of_vocabulary = () if pad_id is None else (*SPECIAL, pad_id)
        kept = {*(of_vocabulary if special is None else special), self.mask_id}
        ordinary = [each for each in range(vocab_size) if each not in kept]
        if not ordinary:
            raise UserError(f"task.special: a vocabulary of {vocab_size} has no token beside these to hide")
        self.share, self.masked, self.random = share, masked, random
        self.register_buffer("ordinary", torch.tensor(ordinary), persistent=False)  # (N,) ids
        self.register_buffer("may_be_hidden", torch.zeros(vocab_size, dtype=torch.bool), persistent=False)  # (V,)
        self.may_be_hidden[ordinary] = True
        self.batch_index = 0  # of the evaluation batch at hand

    ordinary: Tensor
    may_be_hidden: Tensor

    def try_learning(self) -> None:
        """Also where no token stands for a gap: the last one of the vocabulary would be a gap wherever it is meant."""
        if self.is_guess:
            raise UserError("no token of these data stands for a gap; set data.mask=true, or task.mask_id")
        super().try_learning()

    def measure(self, batch: tuple[Any, Any]) -> Measured:
        tokens, targets = self.hidden(batch[0])
        return token_measures(logits_of(self.net(tokens)), targets)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        return with_perplexity(means)

    def _evaluate(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        self.batch_index = batch_idx
        try:
            return super()._evaluate(batch, batch_idx)
        finally:
            self.batch_index = 0

    def hidden(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T) -> what the net sees, and what it is asked: the chosen tokens, -100 elsewhere; both (B, T)."""
        draw, places = self.draws(tokens)
        chosen = self.may_be_hidden[tokens] & (draw < self.share)
        part = draw / self.share  # uniform in 0..1 over the chosen
        seen = tokens.masked_fill(chosen & (part < self.masked), self.mask_id)
        swapped = chosen & (part >= self.masked) & (part < self.masked + self.random)
        seen = torch.where(swapped, self.ordinary[places], seen)
        return seen, tokens.masked_fill(~chosen, IGNORED)

    def draws(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """For each token a number in 0..1, and the place of a random token among the ordinary ones."""
        shape, device, count = tokens.shape, tokens.device, len(self.ordinary)
        if self.training:
            return torch.rand(shape, device=device), torch.randint(count, shape, device=device)
        own = torch.Generator().manual_seed(self.batch_index)  # on the CPU: the same questions on every device
        return torch.rand(shape, generator=own).to(device), torch.randint(count, shape, generator=own).to(device)
