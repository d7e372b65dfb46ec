"""Which parameters learn how fast, and which decay: torch's optimizers treat all alike, unless told otherwise.

Three keys of configs/optimizer/*.yaml are ours and no argument of torch's. Without them an optimizer has one group.

- `decay_biases_and_norms: false`: weight decay leaves parameters of one dimension alone: biases, and scales of norms.
  Shrinking those bounds no function's slope, and a norm's scale has 1 as its natural place, not 0.
- `stage_factor: f`: each stage's rate is that of the stage above it divided by f (Howard and Ruder, "Universal Language
  Model Fine-tuning for Text Classification", 2018, arXiv:1801.06146, section 3.2, where f is 2.6). See `stages.stages`.
- `lr_factors: {glob: factor}`: the rate of what matches, times the factor; of several the first that matches.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from dl_zoo import trust
from dl_zoo.errors import UserError
from dl_zoo.stages import check_pattern, heads, matches, stages

SWITCH = "decay_biases_and_norms"
Make = Callable[..., Optimizer]


def build_optimizer(node: DictConfig) -> Make:
    """From parameters to the optimizer that a configuration describes; a `RatesByPlace` where rates differ by place."""
    node = OmegaConf.create(OmegaConf.to_container(node, resolve=True))  # type: ignore[assignment]
    everything = node.pop(SWITCH, True)
    factors, stage_factor = dict(node.pop("lr_factors", None) or {}), node.pop("stage_factor", 1.0)
    make = trust.build(node)
    if not factors and stage_factor == 1:
        return make if everything else partial(_grouped, make)
    return RatesByPlace(make, node.lr, everything, factors, stage_factor)


def _grouped(make: Make, parameters: Iterable[Parameter]) -> Optimizer:
    return make(_without_decay_of_vectors([{"params": list(parameters)}]))


def _without_decay_of_vectors(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each group in two: what has two dimensions or more, then what has one, which does not decay."""
    halves: list[dict[str, Any]] = []
    for group in groups:
        weights = [p for p in group["params"] if p.dim() > 1]
        vectors = [p for p in group["params"] if p.dim() <= 1]
        halves += [{**group, "params": weights}, {**group, "params": vectors, "weight_decay": 0.0}]
    return [half for half in halves if half["params"]]


class RatesByPlace:
    """From a net to an optimizer whose groups have rates of their own: `RatesByPlace(...).of(net)(parameters)`.

    The groups are sorted by rate, so that the first one's, which is logged, is the highest. Schedules scale all alike.
    """

    def __init__(self, make: Make, lr: float, everything: bool, factors: Mapping[str, float], stage_factor: float):
        if not stage_factor > 0:
            raise UserError(f"optimizer.stage_factor={stage_factor}: must be above 0; 1 is one rate for all")
        for pattern, factor in factors.items():
            if isinstance(factor, bool | str | None) or not factor >= 0:
                raise UserError(f"optimizer.lr_factors.{pattern}={factor}: must be a number of at least 0")
        self.make, self.lr, self.everything = make, lr, everything
        self.factors, self.stage_factor = {str(k): float(v) for k, v in factors.items()}, stage_factor

    def of(self, net: nn.Module) -> Make:
        return partial(self._make, net)

    def __call__(self, parameters: Iterable[Parameter]) -> Optimizer:
        raise TypeError("rates that differ by place need the net: .of(net)(parameters)")

    def _make(self, net: nn.Module, parameters: Iterable[Parameter]) -> Optimizer:
        chosen = {id(parameter) for parameter in parameters}
        by_factor: dict[float, list[Parameter]] = {}
        factors = self.of_names(net)
        for name, parameter in net.named_parameters():
            if id(parameter) in chosen:
                by_factor.setdefault(factors[name], []).append(parameter)
        groups = [{"params": by_factor[f], "lr": self.lr * f} for f in sorted(by_factor, reverse=True)]
        return self.make(groups if self.everything else _without_decay_of_vectors(groups))

    def of_names(self, net: nn.Module) -> dict[str, float]:
        """Parameter's name -> what its rate is multiplied by."""
        for pattern in self.factors:
            check_pattern(net, pattern, "optimizer.lr_factors")
        top = heads(net)
        found: dict[str, float] = {}
        for depth, stage in enumerate(reversed(stages(net))):
            for name in stage:
                own = next((f for pattern, f in self.factors.items() if matches(name, pattern, top)), 1.0)
                found[name] = own / self.stage_factor**depth
        return found
