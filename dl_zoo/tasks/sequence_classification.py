"""One label a sequence, by nets that also give the state they end in."""

from typing import Any

from torch import Tensor

from dl_zoo.tasks.classification import Classification
from dl_zoo.tasks.language_modelling import logits_of


class SequenceClassification(Classification):
    """`Classification`, of which see all arguments and metrics; the net gives (B, K), or that with a state."""

    def answers(self, *inputs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        return logits_of(self.net(*inputs)), ()
