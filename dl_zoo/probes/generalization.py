"""How much better a net does on what it has seen: the gap that regularizers are for.

Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 4.2:
without dropout the net overfits substantially.

`train/acc` is no measure of it: that is taken while the net learns, with units dropped and pictures changed.
"""

from typing import Any

import torch

from dl_zoo.probes import first_items


@torch.no_grad()
def generalization(task: Any, data: Any, *, items: int = 5000) -> dict[str, float]:
    """Accuracy in evaluation on the first `items` training items, unchanged, and on all of validation; fractions.

    generalization/train_acc, val_acc, and gap: the first minus the second.
    """
    device = next(task.net.parameters()).device
    train = list(zip(*(part.split(500) for part in first_items(data, items, device)), strict=True))
    found = {"train_acc": accuracy(task, train), "val_acc": accuracy(task, data.loader("val"))}
    found["gap"] = found["train_acc"] - found["val_acc"]
    return {f"generalization/{name}": value for name, value in found.items()}


def accuracy(task: Any, batches: Any) -> float:
    """Fraction of the items of all batches whose class is the net's answer."""
    device, right, items = next(task.net.parameters()).device, 0, 0
    for inputs, targets in batches:
        right += int((task.net(inputs.to(device)).argmax(1).cpu() == targets.cpu()).sum())
        items += len(targets)
    return right / items
