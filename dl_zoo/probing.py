"""Probes: measurements of a net before or after it trains, which the run does not notice.

A probe is a function `(task, data, **numbers) -> {name: number}` in `probes/`; its YAML says by `at` when it is asked:
`start`, of the net as it was built, or `end`, of the checkpoint that is tested.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from omegaconf import DictConfig

from dl_zoo import compose, trust
from dl_zoo.errors import UserError

Moment = Literal["start", "end"]


def measure(cfg: DictConfig, task: Any, data: Any, at: Moment) -> dict[str, float]:
    """What the run's probes of this moment find, as `probe/<name>`.

    Raises:
        UserError: a probe that does not go with this net or these data.
    """
    found: dict[str, float] = {}
    for name in cfg.probe:
        if cfg.probe[name].at != at:
            continue
        with unnoticed(task):
            found |= {f"probe/{key}": float(value) for key, value in _ask(cfg, str(name), task, data).items()}
    return found


def build(cfg: DictConfig, name: str) -> Any:
    """The function, with the numbers of its YAML. UserError: a moment that there is not."""
    node = cfg.probe[name]
    if node.get("at") not in ("start", "end"):
        raise UserError(f"probe.{name}.at={node.get('at')}: must be start or end")
    alone = compose.without(node, "at")
    return trust.build(alone)


def _ask(cfg: DictConfig, name: str, task: Any, data: Any) -> dict[str, float]:
    try:
        found: dict[str, float] = build(cfg, name)(task, data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"probe={name}: {' '.join(str(error).split())}") from error
    return found


@contextmanager
def unnoticed(task: Any) -> Iterator[None]:
    """Random states, gradients and the mode (training or not) are put back; a probe itself leaves the weights alone."""
    training = task.training
    with torch.random.fork_rng():
        try:
            task.eval()
            yield
        finally:
            task.train(training)
            task.zero_grad(set_to_none=True)
