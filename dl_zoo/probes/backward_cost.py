"""What the way back costs beside the way forwards: less than twice as much, whatever the number of weights.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", 1986; Baur, Strassen, "The
complexity of partial derivatives", 1983, Theoretical Computer Science 22, prove a bound of that kind for any function.
A layer that multiplies by W, (M, N), costs M N multiply-adds an item forwards, z = W a, and two times M N back:

    dL/dW = delta a^T,    dL/da = W^T delta

The first layer's input needs no gradient. So with c_l the multiply-adds of layer l, back / forth = 2 - c_1 / sum c.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items
from dl_zoo.probes.gradient_flow import copied


def backward_cost(task: Any, data: Any, *, items: int = 512, repeats: int = 11) -> dict[str, float]:
    """Of the loss of the first `items` training items as one batch, and its gradient by all weights:

        backward_cost/forward   floating-point operations an item on the way forwards; a multiply-add is two
        backward_cost/flops     those of the way back over those of the way forwards, matrix products and convolutions
        backward_cost/seconds   the same in time: the median over `repeats`, after one that does not count

    Raises:
        UserError: no repeats, or a net in which no such operation is found.
    """
    if repeats < 1:
        raise UserError(f"repeats={repeats}: must be at least 1")
    parameter = next(task.net.parameters())
    batch = first_items(data, items, parameter.device)
    with copied(task, parameter.dtype) as net, torch.enable_grad():
        weights = [each for each in net.parameters() if each.requires_grad]
        with FlopCounterMode(display=False) as counter:
            loss = task.measure(batch).loss
            forward = counter.get_total_flops()
            torch.autograd.grad(loss, weights, allow_unused=True)
        if not forward:
            raise UserError("backward_cost counts matrix products and convolutions, and this net has none")
        times = [ratio_of_times(task, batch, weights) for _ in range(repeats + 1)]
    return {
        "backward_cost/forward": forward / len(batch[0]),
        "backward_cost/flops": counter.get_total_flops() / forward - 1,
        "backward_cost/seconds": statistics.median(times[1:]),
    }


def ratio_of_times(task: Any, batch: tuple[Tensor, Tensor], weights: Sequence[Tensor]) -> float:
    began = now(batch[0].device)
    loss = task.measure(batch).loss
    turned = now(batch[0].device)
    torch.autograd.grad(loss, weights, allow_unused=True)
    return (now(batch[0].device) - turned) / (turned - began)


def now(device: torch.device) -> float:
    """Seconds, when the device has done what it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
