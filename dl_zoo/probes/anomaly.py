"""Does a likelihood tell pictures that are of another kind? Often; and it fails where one would not expect it.

Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan, "Do Deep Generative Models Know What They Don't Know?", ICLR 2019,
arXiv:1810.09136: pictures that vary less can be more likely than those that the model was trained on. A picture is
called strange where its likelihood is small. How well that goes is the area under the ROC curve: 1 where every strange
picture is less likely than every ordinary one, 1/2 for a coin, 0 where the order is upside down.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dl_zoo.errors import UserError

CHANGES: dict[str, Callable[[Tensor], Tensor]] = {  # of pictures (B, C, H, W) in 0..1
    "inverted": lambda x: 1 - x,
    "noisy": lambda x: (x + 0.3 * torch.randn_like(x)).clamp(0, 1),
    "blurred": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "faded": lambda x: x / 10,  # hardly a stroke is left, and nothing of it surprises
}


@torch.no_grad()
def anomaly(task: Any, data: Any, *, samples: int = 16, items: int = 1000) -> dict[str, float]:
    """Areas under the ROC curve by -L_k, k = `samples`, of test pictures that are none of the training's against as
    many as `items` test pictures of its classes:

        anomaly/held_out           pictures of the classes that `data.classes` leaves out
        anomaly/inverted, noisy, blurred, faded    the ordinary pictures, changed so

    and the mean L_k in nats: anomaly/nats, anomaly/nats_held_out, ...

    Raises:
        UserError: no items or samples, data that leave no class out, a task without latents or with a net that asks
            for classes, which strange pictures have not.
    """
    from sklearn.metrics import roc_auc_score

    if samples < 1 or items < 1:
        raise UserError(f"samples={samples}, items={items}: must be at least 1")
    if not hasattr(task, "likelihoods") or task.conditional:
        raise UserError(
            "anomaly: it goes by the likelihood of pictures without a class; task=vae, an unconditional net"
        )
    known = pictures(task, data, items)
    strange = {"held_out": pictures(task, held_out(data), items)}
    strange |= {name: change(known) for name, change in CHANGES.items()}
    ordinary = torch.cat([task.likelihoods(x, samples) for x in known.split(250)])
    found = {"nats": float(ordinary.mean())}
    for name, each in strange.items():
        likely = torch.cat([task.likelihoods(x, samples) for x in each.split(250)])
        label = np.repeat([0, 1], [len(ordinary), len(likely)])
        found[name] = float(roc_auc_score(label, -torch.cat([ordinary, likely]).cpu().numpy()))
        found[f"nats_{name}"] = float(likely.mean())
    return {f"anomaly/{name}": value for name, value in found.items()}


def held_out(data: Any) -> Any:
    """The same data with the classes that were left out, and none of the others. UserError: none were."""
    if getattr(data, "subset", None) is None or len(data.subset) == data.labelled:
        raise UserError("anomaly: these data leave no class out; data.classes=[0,1,2,3,4,5,6,7,8]")
    if data.splits and data.splits["train"] is data.splits["test"]:  # pretended, for a pre-flight check
        return data
    other = copy.copy(data)
    other.splits, other.labels_per_class, other.train_items = {}, None, None
    other.subset = [number for number in range(data.labelled) if number not in data.subset]
    other.classes = [str(number) for number in other.subset]
    other.dims = {**data.dims, "num_classes": len(other.classes)}
    return other


def pictures(task: Any, data: Any, items: int) -> Tensor:
    """The first test pictures as the task explains them: (at most `items`, C, H, W), pixels in 0..1."""
    device = next(task.net.parameters()).device
    loader = data.loader("test")
    found = [task.shown(x.to(device)) for x, _ in loader]
    return torch.cat(found)[:items]
