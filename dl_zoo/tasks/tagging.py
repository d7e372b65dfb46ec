"""One label a token: parts of speech, names, or a sequence written out beside another of its length."""

from typing import Any

from torch import Tensor

from dl_zoo.tasks.language_modelling import checked_share, logits_of, token_measures
from dl_zoo.tasks.losses import IGNORED
from dl_zoo.tasks.task import Measured, Task


class Tagging(Task):
    """Batches `(inputs, targets (B, T))`; target -100 does not count. The net gives logits (B, T, K), or with a state.

    Metrics: `loss` (nats a token), `acc` and `error` (fractions of tokens), and `exact`, the fraction of sequences
    whose every token that counts is right; sequences in which none counts are left out.

    Args:
        label_smoothing: share of probability spread evenly over all labels, in training alone (Szegedy et al. 2016,
            arXiv:1512.00567, section 7); `train/loss` holds it, `train/nll` does not.
    """

    def __init__(self, *args: Any, label_smoothing: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.label_smoothing = checked_share(label_smoothing)

    def measure(self, batch: tuple[Any, Tensor]) -> Measured:
        inputs, targets = batch
        logits = logits_of(self.net(*inputs) if isinstance(inputs, tuple | list) else self.net(inputs))  # (B, T, K)
        measured = token_measures(logits, targets, self.label_smoothing if self.training else 0.0)
        counted = targets != IGNORED  # (B, T)
        right = (measured.output.argmax(-1) == targets) | ~counted
        some = counted.any(1)  # (B,)
        sums = measured.sums | {"exact": (right.all(1) & some).sum(), "sequences": some.sum()}
        return Measured(measured.loss, sums, measured.items, measured.output.flatten(0, 1))  # (B*T, K)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        """Both sums of sequences come divided by the tokens, which their ratio undoes."""
        if not means:
            return means
        rest = {name: value for name, value in means.items() if name != "sequences"}
        return {**rest, "error": 1 - means["acc"], "exact": means["exact"] / max(means["sequences"], 1e-12)}

    def progress(self) -> dict[str, float]:
        of_sequences = ("exact", "sequences")
        return {name: value for name, value in super().progress().items() if name.split("/")[-1] not in of_sequences}

    def _evaluate(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Tokens as items, for what counts a classifier's answers."""
        shown = super()._evaluate(batch, batch_idx)
        return {**shown, "targets": batch[1].flatten()}
