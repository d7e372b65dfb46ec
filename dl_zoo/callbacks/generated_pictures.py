"""What a generative net makes up, in TensorBoard, while it learns: always of the same noise, so that epochs compare.

Tags: about ten times a run `samples/generated`, pictures of fixed noise (a row of each class where the net is told
classes), or `samples/points`, points beside the data's; and `reconstructions/val`, originals over reconstructions. Of
the tested net `reconstructions/test`, `samples/interpolation`, `samples/latent_plane` where there are two latents, and
`samples/chain`, from noise to points. All draws come from a generator of this file's own: a run with these pictures
equals one without to the bit, and a resumed run draws the same ones.
"""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dl_zoo import making
from dl_zoo.callbacks.figures import render
from dl_zoo.callbacks.gallery import chain_figure, gallery, over, points_figure
from dl_zoo.callbacks.maps import undisturbed
from dl_zoo.callbacks.pictures import draw, is_due, shown, writers

SEED = 0
ACROSS, ROWS = 10, 8  # of pictures
MOST = 20  # rows of classes
STEPS = 10  # from one sample to another
SIDE = 20  # of the latent plane
POINTS = 1000
STAGES = (0, 0.5, 0.75, 0.9, 1)  # of a chain, whose first half is noise


class GeneratedPictures(Callback):
    def __init__(self) -> None:
        self.drawn = -1  # epoch

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:  # place: batch, and loader where there are several. The first: averaged weights, if any, are in the net
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not any(place):
            self.draw_epoch(trainer, pl_module, batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.draw_epoch(trainer, pl_module, None)  # where nothing is validated

    def draw_epoch(self, trainer: Trainer, task: Any, batch: Any) -> None:
        epoch = trainer.current_epoch + 1
        if self.drawn == epoch or not writers(trainer) or not is_due(epoch, trainer.max_epochs):
            return
        self.drawn = epoch
        with undisturbed(task.net, task.device):
            draw_made(trainer, task)
            draw_reconstructions(trainer, task, batch, "val")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        if any(place) or not writers(trainer):
            return
        with undisturbed(pl_module.net, pl_module.device):  # type: ignore[arg-type]
            draw_reconstructions(trainer, pl_module, batch, "test")
            draw_ways(trainer, pl_module)


def draw_made(trainer: Trainer, task: Any) -> None:
    if not making.makes_things_up(task):
        return
    classes = in_rows(trainer, task, ACROSS)
    made = making.samples(task, ROWS * ACROSS if classes is None else len(classes), classes, SEED)
    if made.ndim == 4:
        draw(trainer, "samples/generated", gallery(made, ACROSS))
    elif made.shape[1:] == (2,):
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        title = f"epoch {trainer.current_epoch + 1}: {POINTS:,} of each"
        figure = points_figure(
            making.samples(task, POINTS, None, SEED), real(data), getattr(data, "modes", None), title
        )
        draw(trainer, "samples/points", render(figure))


def draw_reconstructions(trainer: Trainer, task: Any, batch: Any, split: str) -> None:
    """Of the first pictures of a batch."""
    if not hasattr(task, "reconstruct") or batch is None or not isinstance(batch[0], Tensor) or batch[0].ndim != 4:
        return
    pictures = shown(trainer, batch[0][: 4 * ACROSS])
    classes = batch[1][: len(pictures)] if getattr(task, "conditional", False) else None
    again = task.reconstruct(pictures.to(task.device), classes).cpu()
    if again.isfinite().all():
        draw(trainer, f"reconstructions/{split}", over(pictures, again, ACROSS))


def draw_ways(trainer: Trainer, task: Any) -> None:
    """What needs the finished net: from sample to sample, the plane, the chain."""
    if not making.makes_things_up(task):
        return
    classes = in_rows(trainer, task, STEPS)
    rows = ROWS if classes is None else len(classes) // STEPS
    noise = task.noise(2 * rows, torch.Generator().manual_seed(SEED))
    made = making.of_noise(task, making.between(noise[::2], noise[1::2], STEPS), classes)
    if made.ndim == 4:
        draw(trainer, "samples/interpolation", gallery(made, STEPS))
        if noise.shape[1:] == (2,):
            grid = making.plane(SIDE).to(noise)
            classes = torch.zeros(len(grid), dtype=torch.int64) if task.conditional else None
            draw(trainer, "samples/latent_plane", gallery(making.of_noise(task, grid, classes), SIDE, gap=0, wide=28))
    elif made.shape[1:] == (2,) and hasattr(task, "chain"):
        chain = task.chain(task.noise(POINTS, torch.Generator().manual_seed(SEED)))
        steps = [round(stage * (len(chain) - 1)) for stage in STAGES]
        figure = chain_figure(chain, real(trainer.datamodule), steps)  # type: ignore[attr-defined]
        draw(trainer, "samples/chain", render(figure))


def in_rows(trainer: Trainer, task: Any, across: int) -> Tensor | None:
    """Of a conditional net the classes of samples (rows * across,): a row of each, of the first ones."""
    if not task.conditional:
        return None
    known = len(getattr(trainer.datamodule, "classes", None) or range(1))  # type: ignore[attr-defined]
    return torch.arange(min(known, MOST)).repeat_interleave(across)


def real(data: Any) -> Tensor | None:
    """Points of the data, as many as are made up, where these are points in a plane."""
    inputs = getattr(data, "splits", {}).get("val", (torch.empty(0),))[0]
    return inputs[:POINTS].cpu() if inputs.shape[1:] == (2,) else None
