"""How much of a recurrent net's last state still depends on the one so many steps before."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from dl_zoo.errors import UserError
from dl_zoo.probes import first_items
from dl_zoo.probes.gradient_flow import TINY, copied
from dl_zoo.through_time import gradient_norms


def gradient_through_time(
    task: Any, data: Any, *, items: int = 16, lags: Sequence[int] = (1, 10, 25, 50, 100)
) -> dict[str, float]:
    """log10 of |dh_T / ds_(T-k)|, over that at k = 0, on the first training items; see `dl_zoo.through_time`.

        gradient_through_time/0001, ...   at these lags k
        gradient_through_time/a_step      its slope from the first of them to the last, a step back

    On a copy of the net in float64, since float32 ends at 1e-45.

    Raises:
        UserError: a lag that these sequences do not have, or a net without state.
    """
    if "state" not in inspect.signature(task.net.forward).parameters:
        raise UserError(
            "gradient_through_time asks what a net carries on, and this one has no state; model=rnn, lstm, gru"
        )
    inputs, _ = first_items(data, items, next(task.net.parameters()).device)
    known = inputs.shape[1] - 1
    if len(lags) < 2 or any(type(k) is not int or not 0 < k <= known for k in lags) or sorted({*lags}) != [*lags]:
        raise UserError(
            f"probe.gradient_through_time.lags={[*lags]}: must be two whole numbers at least, rising, of 1 to {known}"
        )
    with copied(task, torch.float64) as net, torch.enable_grad():
        norms = gradient_norms(net, inputs.double() if inputs.is_floating_point() else inputs).cpu()
    logs = (norms / norms[0]).clamp(min=TINY).log10()
    found = {f"gradient_through_time/{k:04d}": float(logs[k]) for k in lags}
    first, *_, last = lags
    slope = float(logs[last] - logs[first]) / (last - first)
    return {**found, "gradient_through_time/a_step": slope}
