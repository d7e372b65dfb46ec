"""Which parameters decay: torch's optimizers shrink all of them alike, unless they are told otherwise."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch.nn import Parameter
from torch.optim import Optimizer

from dl_zoo import trust

SWITCH = "decay_biases_and_norms"  # of configs/optimizer/*.yaml; not an argument of torch's


def build_optimizer(node: DictConfig) -> Callable[[Iterable[Parameter]], Optimizer]:
    """From parameters to the optimizer that a configuration describes.

    With `decay_biases_and_norms: false`, weight decay leaves parameters of one dimension alone: biases, and the scales
    of norms. Shrinking those bounds no function's slope, and a norm's scale has 1 as its natural place, not 0.
    """
    node = OmegaConf.create(OmegaConf.to_container(node, resolve=True))  # type: ignore[assignment]
    everything = node.pop(SWITCH, True)
    make = trust.build(node)
    return make if everything else partial(_grouped, make)


def _grouped(make: Callable[[Any], Optimizer], parameters: Iterable[Parameter]) -> Optimizer:
    parameters = list(parameters)
    weights = [p for p in parameters if p.dim() > 1]
    vectors = [p for p in parameters if p.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": vectors, "weight_decay": 0.0}]
    return make([group for group in groups if group["params"]])
