"""Gradual unfreezing: first the heads learn alone, then one more stage of the net from above every few epochs.

Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, arXiv:1801.06146, section 3.3:
what the lower layers know is not forgotten while the fresh head still sends back noise. Theirs is one epoch a layer.

What learns is a function of the epoch alone, so a resumed run needs nothing saved. Norms of stages that do not learn
yet keep their running statistics. All parameters are with the optimizer from the start; it passes over those without
a gradient, weight decay included.
"""

from typing import Any

from pytorch_lightning import Callback
from torch import nn

from dl_zoo.errors import UserError
from dl_zoo.freezing import counting_norms, hold, release
from dl_zoo.stages import stages


class GradualUnfreezing(Callback):
    """`every`: epochs until the next stage; the heads learn from the first on. What `freeze` holds stays frozen."""

    def __init__(self, every: int = 1):
        if not isinstance(every, int) or every < 1:
            raise UserError(f"regularizer.gradual_unfreezing.every={every}: must be a whole number of at least 1")
        self.every = every
        self._stages: list[list[str]] = []  # from the top, without what is frozen for good
        self._learning = 0  # stages that learn now

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        unused = getattr(trainer.strategy, "_ddp_kwargs", {}).get("find_unused_parameters")
        if trainer.world_size > 1 and not unused:
            needed = "trainer.strategy=ddp_find_unused_parameters_true"
            raise UserError(f"regularizer=gradual_unfreezing: on several devices use {needed}")
        free = {name for name, parameter in pl_module.net.named_parameters() if parameter.requires_grad}
        found = [[name for name in each if name in free] for each in reversed(stages(pl_module.net))]
        self._stages = [each for each in found if each]
        self._learning = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Here, since an epoch that is resumed in its middle has no other beginning."""
        learning = min(len(self._stages), 1 + trainer.current_epoch // self.every)
        if learning != self._learning:
            self._learning = learning
            unfreeze(pl_module.net, self._stages, learning)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        unfreeze(pl_module.net, self._stages, len(self._stages))


def unfreeze(net: nn.Module, from_the_top: list[list[str]], learning: int) -> None:
    """Let the first stages of this list learn and the others not; parameters in none of them are left alone."""
    learn = {name: i < learning for i, stage in enumerate(from_the_top) for name in stage}
    for name, parameter in net.named_parameters():
        if name in learn:
            parameter.requires_grad = learn[name]
            parameter.grad = parameter.grad if learn[name] else None
    for norm, names in counting_norms(net):
        if all(name in learn for name in names):
            (release if learn[names[0]] else hold)(norm)
