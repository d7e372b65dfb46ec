"""By how much a net is surer of what it has seen than of what it has not: overfitting, in nats.

Goodfellow, Bengio, Courville, "Deep Learning", 2016, section 5.2: the gap between training and test error is what
regularizers are to shrink. A net that is right on all training items goes on overfitting, which accuracy
(`generalization`) does not see: it grows ever surer, also where it is wrong.
"""

from typing import Any

import torch
import torch.nn.functional as F

from dl_zoo.probes import first_items


@torch.no_grad()
def nll_gap(task: Any, data: Any, *, items: int = 5000) -> dict[str, float]:
    """Mean cross entropy in evaluation, nats an item, whatever loss was minimised:

    nll_gap/train    of the first `items` training items, unchanged
    nll_gap/val      of all of validation
    nll_gap/gap      the second minus the first
    """
    device = next(task.net.parameters()).device
    train = zip(*(part.split(500) for part in first_items(data, items, device)), strict=True)
    found = {name: mean(task, batches) for name, batches in (("train", train), ("val", data.loader("val")))}
    return {f"nll_gap/{name}": value for name, value in {**found, "gap": found["val"] - found["train"]}.items()}


def mean(task: Any, batches: Any) -> float:
    """Of the items of all batches."""
    device, nats, items = next(task.net.parameters()).device, 0.0, 0
    for inputs, targets in batches:
        logits = task.net(inputs.to(device)).float()
        nats += float(F.cross_entropy(logits, targets.to(device), reduction="sum"))
        items += len(targets)
    return nats / items
