"""Augmentation with synthetic examples: a class-conditional generator's pictures beside too few real ones.

Antoniou, Storkey, Edwards, "Data Augmentation Generative Adversarial Networks", 2017, arXiv:1711.04340, train a
classifier on real and generated pictures together; here any conditional generator of this zoo may make them. One that
learnt from no more than the same few labels adds no knowledge of the world: what it adds is its own way to fill the
space between the examples.

The pictures are made once, as the run begins, from a seed of their own: a resumed run has the same. Validation and test
stay real, and `evaluate` needs no generator.
"""

import logging
from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor

from dl_zoo import making
from dl_zoo.errors import UserError

log = logging.getLogger("dl_zoo")
HERE = "regularizer.synthetic"


class Synthetic(Callback):
    """Appends `per_class` made pictures of each class to the training split.

    Args:
        source: a run or a checkpoint of a conditional generator, or one that ships with the zoo.
        per_class: so many of each class.
        seed: of the noise that they are made of.
    Raises:
        UserError: as the run begins, where the source makes no pictures of a class that is asked for, does not know the
            data's classes, or makes pictures of another number of channels.
    """

    def __init__(self, source: str | None, per_class: int = 100, seed: int = 0):
        if not source:
            raise UserError(f"{HERE}.source=null: name the run of a conditional generator, such as a VAE's")
        if not isinstance(per_class, int) or per_class < 1:
            raise UserError(f"{HERE}.per_class={per_class}: must be a whole number of at least 1")
        self.source, self.per_class, self.seed = source, per_class, seed
        self._added = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit" or self._added:
            return
        data: Any = getattr(trainer, "datamodule", None)
        inputs, targets = getattr(data, "splits", {}).get("train", (None, None))
        if not isinstance(inputs, Tensor) or inputs.dtype != torch.uint8:
            raise UserError(
                "regularizer=synthetic: is for pictures that are held in memory, as those of data=mnist are"
            )
        made, classes = self.made([str(name) for name in data.classes])
        if made.shape[1] != inputs.shape[1]:
            raise UserError(
                f"{HERE}.source={self.source}: makes {made.shape[1]} channel(s); the data have {inputs.shape[1]}"
            )
        if made.shape[-1] != inputs.shape[-1]:
            made = data.fit_to(made, inputs.shape[-1])
        made, classes = made.to(inputs.device), classes.to(targets.device, targets.dtype)
        data.splits["train"] = torch.cat([inputs, made]), torch.cat([targets, classes])
        data.sizes = {**data.sizes, "train": len(inputs) + len(made)}
        self._added = True
        rank_zero_only(log.info)(
            "synthetic    %s made by %s beside %s real", f"{len(made):,}", self.source, f"{len(inputs):,}"
        )

    def made(self, names: list[str]) -> tuple[Tensor, Tensor]:
        """Pictures (N, C, H, W) uint8 and their classes (N,), `per_class` of each of these names, numbered in order."""
        from dl_zoo import trained

        with torch.random.fork_rng([]):  # a net is drawn before its weights are loaded
            run = trained.load(self.source)
        if not making.makes_things_up(run.task) or not run.task.conditional:
            raise UserError(
                f"{HERE}.source={self.source}: makes no pictures of a class that is asked for; a VAE that was trained"
                " with model.conditional=true does"
            )
        known = [str(name) for name in run.data.classes]
        if strange := [name for name in names if name not in known]:
            raise UserError(
                f"{HERE}.source={self.source}: knows no class {strange[0]!r}; there are {', '.join(known[:20])}"
            )
        classes = torch.arange(len(names)).repeat_interleave(self.per_class)
        asked = torch.tensor([known.index(name) for name in names])[classes]
        pictures = making.samples(run.task.eval(), len(asked), asked, self.seed)
        if pictures.ndim != 4:
            raise UserError(f"{HERE}.source={self.source}: makes no pictures")
        return (pictures.detach().clamp(0, 1) * 255).round().byte().cpu(), classes
