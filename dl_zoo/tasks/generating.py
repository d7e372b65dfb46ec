"""What tasks of nets that make things up share: the scale of pictures, the noise of evaluation, its measures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo import making
from dl_zoo.errors import UserError
from dl_zoo.measures.frechet import frechet_distance
from dl_zoo.measures.inception_score import inception_score
from dl_zoo.measures.modes import modes_covered
from dl_zoo.measures.nearest import nearness
from dl_zoo.measures.precision_recall import precision_recall
from dl_zoo.measures.predicted_classes import predicted_classes

FEWEST = 4  # pictures: each has three neighbours
AT_ONCE = 5000  # training pictures
NEAREST = 500  # samples whose nearest training picture is looked for: each is compared with all of them


def pixels(x: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """Normalised pictures (B, C, H, W) in 0..1 again; anything else, where there is no mean, as it is."""
    if mean is None or std is None:
        return x
    middle, spread = (torch.tensor(each, device=x.device).view(-1, 1, 1) for each in (mean, std))
    return (x * spread + middle).clamp(0, 1)


@contextmanager
def still(net: nn.Module) -> Iterator[None]:
    """In evaluation mode while open, and then as it was."""
    training = net.training
    try:
        net.eval()
        yield
    finally:
        net.train(training)


def own_noise(shape: Sequence[int], batch_index: int, device: torch.device) -> Tensor:
    """Standard normal, for batch `batch_index` of an evaluation: the same in every one, on every device."""
    own = torch.Generator().manual_seed(batch_index)
    return torch.randn(tuple(shape), generator=own).to(device)


def quality(task: Any, split: str) -> dict[str, float]:
    """How good what the task makes up is, beside a split of its data; {} where nothing is to be measured.

    Samples are drawn from a generator of this function's own, as many as `task.samples` says for the test split and
    `task.val_samples` after an epoch; fewer where there are not so many real ones. A conditional net is asked for the
    classes of the real ones. Every rank measures the same, and the first one's numbers count.

    Of pictures, with `task.features` (F below), a classifier:

        fid_F, fid_floor    Fréchet distance of the samples from as many real ones; of training pictures from those
        is_F                inception score
        precision, recall   among the real ones' neighbours, and the other way round
        classes, confident, entropy    see `predicted_classes`
        nearest             distance to the training set over that of real pictures, in pixels

    Of points, where the data have `modes`: `modes`, how many are covered, and `high_quality`, the share near one.

    Raises:
        FloatingPointError: a sample is not finite.
        UserError: features are named, and the data are no pictures, or too few.
    """
    data: Any = getattr(task.trainer, "datamodule", None)
    count = task.samples if split == "test" else task.val_samples
    if not count or not hasattr(data, "splits") or (task.features is None and not hasattr(data, "modes")):
        return {}
    if hasattr(data, "modes"):
        found = modes_covered(making.samples(task, count).cpu(), data.modes, data.deviation)
    else:
        inputs, targets = data.splits[split]
        real = evenly(len(inputs), min(count, len(inputs), len(data.splits["train"][0])))
        if len(inputs.shape) != 4 or len(real) < FEWEST:
            raise UserError(f"task.features: it looks at pictures, {FEWEST} or more a split; task.features=null")
        classes = targets[real.to(targets.device)] if task.conditional else None
        samples = in_bytes(making.samples(task, len(real), classes))
        found = of_pictures(task, samples, pictures(data, split, real), data)
    return task.trainer.strategy.broadcast(found) if task.trainer.world_size > 1 else found


def of_pictures(task: Any, samples: Tensor, real: Tensor, data: Any) -> dict[str, float]:
    """The measures of pictures, of samples and as many real ones (N, C, H, W) uint8."""
    known, count = evenly(len(data.splits["train"][0]), len(real)), len(real)
    every = torch.cat([samples, real, pictures(data, "train", known)])
    features, logits = task.features(every, task.device)
    of_samples, of_real, of_known = features.split(count)
    name = task.features.name
    precision, recall = precision_recall(of_real, of_samples)
    some = evenly(count, min(count, NEAREST))
    looked_at, beside = (each[some].to(task.device) / 255 for each in (samples, real))
    return {
        f"fid_{name}": frechet_distance(of_samples, of_real),
        "fid_floor": frechet_distance(of_known, of_real),
        f"is_{name}": inception_score(logits[:count]),
        "precision": precision,
        "recall": recall,
        **predicted_classes(logits[:count]),
        "nearest": nearness(looked_at, beside, training(data)),
    }


def training(data: Any) -> Iterator[Tensor]:
    """All training pictures in 0..1, in batches."""
    for indices in torch.arange(len(data.splits["train"][0])).split(AT_ONCE):
        yield pictures(data, "train", indices) / 255


def pictures(data: Any, split: str, indices: Tensor) -> Tensor:
    """Those of a split, uint8 on the CPU, cut to the size that a net gets."""
    inputs = data.splits[split][0]
    kept = inputs.index_select(0, indices.to(inputs.device)).cpu()
    height, width = kept.shape[-2:]
    size = data.dims["image_size"]
    top, left = (height - size) // 2, (width - size) // 2
    return kept[..., top : top + size, left : left + size]


def in_bytes(samples: Tensor) -> Tensor:
    """Pictures in 0..1 as they would be stored, (N, C, H, W) uint8 on the CPU."""
    return (samples.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def evenly(items: int, count: int) -> Tensor:
    """`count` of so many indices, evenly spread, whatever the order of the items.

    >>> evenly(10, 4)
    tensor([0, 2, 5, 7])
    """
    return torch.arange(count) * items // count
