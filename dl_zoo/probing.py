"""Probes: measurements of a net before or after it trains, which the run does not notice.

A probe is a function `(task, data, **numbers) -> {name: number}` in `probes/`; its YAML says by `at` when it is asked:
`start`, of the net as it was built, or `end`, of the checkpoint that is tested.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from omegaconf import DictConfig

from dl_zoo import compose, trust
from dl_zoo.errors import UserError

log = logging.getLogger("dl_zoo")
Moment = Literal["start", "end"]


def build_all(cfg: DictConfig) -> None:
    """Raise UserError now where a probe cannot be built, and not when the training is over."""
    for name in cfg.probe:
        build(cfg, str(name))


def measure(cfg: DictConfig, task: Any, data: Any, at: Moment, trained: bool = True) -> dict[str, float]:
    """What the run's probes of this moment find, as `probe/<name>`.

    Raises:
        UserError: a probe that does not go with this net or these data; at the end, when a training would be lost by
            it, that is only told.
    """
    found: dict[str, float] = {}
    for name in cfg.probe:
        if cfg.probe[name].at != at:
            continue
        try:
            with unnoticed(task):
                found |= {f"probe/{key}": float(value) for key, value in _ask(cfg, str(name), task, data).items()}
        except UserError as error:
            if at == "start" or not trained:
                raise
            log.info("%s; left out", error)
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
