"""The next token of a text that is read in order, by a net that remembers what it read in the batches before.

Truncated backpropagation through time: Williams, Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of
Recurrent Network Trajectories", 1990, Neural Computation 2(4), in the form that char-rnn and Mikolov's toolkit made
usual. The state goes on from window to window, the gradient does not: it goes back at most one window of T tokens.
"""

import inspect
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks.language_modelling import LanguageModelling, token_measures
from dl_zoo.tasks.task import Measured

State = tuple[Tensor, ...]


class CarriedLanguageModelling(LanguageModelling):
    """`LanguageModelling`, of which see metrics and arguments, over batches whose rows go on from one to the next.

    The net takes `state=` and gives `(logits, state)`. A pass begins without a state, in training as in evaluation, and
    the state that an unfinished pass of training has reached is in its checkpoint.

    Raises:
        UserError: a net without a state, or one that reads no more than its context at once.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        forward = inspect.signature(self.net.forward).parameters
        if "state" not in forward or getattr(self.net, "context", None):
            raise UserError(
                "task=carried_language_modelling: this net carries no state on without end; model=char_lstm, lstm, gru"
                " and rnn do"
            )
        self.state: State | None = None  # before this batch of training
        self._reached: State | None = None  # behind it
        self.read: State | None = None  # in evaluation

    def measure(self, batch: tuple[Tensor, Tensor]) -> Measured:
        inputs, targets = batch
        before = self.state if self.training else self.read
        if before is not None and len(before[0]) != len(inputs):
            before = None
        if before is not None:
            before = tuple(each.to(inputs.device) for each in before)  # from a checkpoint it comes on the CPU
        logits, after = self.net(inputs, state=before)
        after = tuple(each.detach() for each in after)
        if self.training:
            self._reached = after
        else:
            self.read = after
        return token_measures(logits, targets, self.label_smoothing if self.training else 0.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            self.state = None
        return super().training_step(batch, batch_idx)

    def settle(self) -> None:
        """The next batch goes on where this one stopped. An optimizer may have asked for its loss several times."""
        if self._reached is not None:
            self.state, self._reached = self._reached, None
        super().settle()

    def _evaluate(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        if batch_idx == 0:
            self.read = None
        return super()._evaluate(batch, batch_idx)

    def _log_evaluation(self, split: str) -> None:
        self.read = None
        super()._log_evaluation(split)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """With the states of all ranks, of which each has rows of its own."""
        super().on_save_checkpoint(checkpoint)
        own = None if self.state is None else [each.cpu() for each in self.state]
        every: list[Any] = [own]
        if torch.distributed.is_initialized():
            every = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(every, own)
        checkpoint["task"]["states"] = every

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        every = checkpoint.get("task", {}).get("states", [])
        ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        own = every[self.global_rank] if len(every) == ranks else None
        self.state = None if own is None else tuple(own)
