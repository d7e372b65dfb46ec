"""Are these two of one class? A learnt distance, asked of classes that the net may never have seen.

Chopra, Hadsell, LeCun, "Learning a Similarity Metric Discriminatively, with Application to Face Verification", CVPR
2005: a pair is called equal where its distance is small. How well that goes over all thresholds is the area under the
ROC curve: 1 where every equal pair is nearer than every other, 1/2 for a coin.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError

Pairs = Callable[..., tuple[Tensor, Tensor]]  # (targets, count, seed) -> indices, half of the pairs equal


@torch.no_grad()
def verification(task: Any, data: Any, *, pairs: Pairs, count: int = 20_000) -> dict[str, float]:
    """Areas under the ROC curve of `count` pairs of test items, the same whatever the run's seed:

        verification/net      by the distance of the net's outputs
        verification/pixels   by the distance of its inputs

    UserError: fewer than 2 pairs, or data without a class an item.
    """
    from sklearn.metrics import roc_auc_score

    if count < 2:
        raise UserError(f"probe.verification.count={count}: must be at least 2")
    device = next(task.net.parameters()).device
    batches = [(x, task.net(x.to(device)), y) for x, y in data.loader("test") if isinstance(x, Tensor)]
    if not batches or any(y.dim() != 1 or y.is_floating_point() for _, _, y in batches):
        raise UserError("verification compares items of classes, which these data are not; data=unseen_digits")
    inputs, outputs, targets = (
        torch.cat(each).cpu().flatten(1) if each[0].dim() > 1 else torch.cat(each).cpu()
        for each in zip(*batches, strict=True)
    )
    first, second = pairs(targets, count, 0)
    equal = (targets[first] == targets[second]).numpy()
    return {
        f"verification/{name}": float(roc_auc_score(equal, -(x[first] - x[second]).norm(dim=1).numpy()))
        for name, x in (("net", outputs), ("pixels", inputs))
    }
