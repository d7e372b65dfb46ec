"""Does the likelihood of a mixture ever fall under EM, and is a mixture worth its components?

Dempster, Laird, Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", 1977, J. R. Stat. Soc. B 39(1),
theorem 1: log p(x | next) >= log p(x | now), whatever the start. The steps themselves are `from_scratch.mixture`, which
the YAML names.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError

Expectation = Callable[..., tuple[Tensor, Tensor]]  # (x, mixture) -> log p(x_n) (N,), who made which point (N, K)
Maximisation = Callable[..., Any]  # (x, gamma) -> mixture


def em_likelihood(
    task: Any,
    data: Any,
    *,
    expectation: Expectation,
    maximisation: Maximisation,
    start: Callable[..., Any],
    components: int = 10,
    coordinates: int = 10,
    steps: int = 100,
    starts: int = 4,
    overstep: float = 1.0,
) -> dict[str, float]:
    """EM on the `coordinates` first principal components of the training pictures, pixels in 0..1, in float64:

        em_likelihood/smallest_rise   of any step from any of the `starts`: of the mean log likelihood L of an item,
                                      as a share of |L|, or of 1 nat where that is more
        em_likelihood/steps           that were taken from the start that allowed the fewest: a component that becomes
                                      flat or empty ends them
        em_likelihood/gain            nats an item from the start to the end, the smallest of the starts
        em_likelihood/bits            - log2 p a coordinate of the validation pictures, by the mixture with the
                                      largest likelihood of the training ones
        em_likelihood/bits_gaussian   the same by one Gaussian

    Every other start is `start`, means at points drawn apart; the others are random shares of each point, from which
    the first mixture is made. All are drawn by the run's seed.

    Args:
        overstep: 1: the M step puts the means where they belong. Above 1 they go so many times as far, beyond it.
    Raises:
        UserError: data that are no pictures held whole, or numbers below 1 or above what there is.
    """
    if min(components, coordinates, steps, starts) < 1:
        raise UserError("probe.em_likelihood: components, coordinates, steps and starts must be at least 1")
    train, val = principal(data, coordinates)
    if len(train) <= components * coordinates:
        items = f"{len(train)} items are too few for {components} full covariances of {coordinates} coordinates"
        raise UserError(f"probe.em_likelihood.components={components}: {items}")
    runs = []
    for number in range(starts):
        mixture = begun(train, components, 1000 * data.seed + number, start, maximisation)
        runs.append(climb(train, mixture, expectation, maximisation, steps, overstep))
    best = max(runs, key=lambda run: run[1][-1])[0]
    one = maximisation(train, torch.ones_like(train[:, :1]))
    return {
        "em_likelihood/smallest_rise": min(smallest_rise(heights) for _, heights in runs),
        "em_likelihood/steps": float(min(len(heights) - 1 for _, heights in runs)),
        "em_likelihood/gain": min(heights[-1] - heights[0] for _, heights in runs),
        "em_likelihood/bits": bits(expectation(val, best)[0], coordinates),
        "em_likelihood/bits_gaussian": bits(expectation(val, one)[0], coordinates),
    }


def climb(
    x: Tensor, mixture: Any, expectation: Expectation, maximisation: Maximisation, steps: int, overstep: float
) -> tuple[Any, list[float]]:
    """The mixture after so many steps, and the mean log likelihood after none, one, two .. of them; both up to where a
    component has become flat or empty, if one does."""
    log_p, gamma = expectation(x, mixture)
    heights, last = [float(log_p.mean())], mixture
    for _ in range(steps):
        better = maximisation(x, gamma)
        mixture = better._replace(means=mixture.means + overstep * (better.means - mixture.means))
        try:
            log_p, gamma = expectation(x, mixture)
        except torch.linalg.LinAlgError:  # no bound above, or nothing left of the component
            break
        last = mixture
        heights.append(float(log_p.mean()))
    return last, heights


def begun(x: Tensor, components: int, seed: int, start: Callable[..., Any], maximisation: Maximisation) -> Any:
    if seed % 2 == 0:
        return start(x, components, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return maximisation(x, torch.randn(len(x), components, dtype=x.dtype, generator=generator).mul(2).softmax(1))


def smallest_rise(heights: list[float]) -> float:
    return min(((after - before) / max(abs(before), 1.0) for before, after in pairwise(heights)), default=math.nan)


def bits(log_p: Tensor, coordinates: int) -> float:
    return -float(log_p.mean()) / math.log(2) / coordinates


def principal(data: Any, coordinates: int) -> tuple[Tensor, Tensor]:
    """Training and validation pictures (N, coordinates) float64, along the directions in which the former vary most."""
    train, val = (getattr(data, "splits", {}).get(split, (None,))[0] for split in ("train", "val"))
    if not all(isinstance(inputs, Tensor) and inputs.dtype == torch.uint8 for inputs in (train, val)):
        raise UserError("em_likelihood reads pictures that are held whole; data=digits or mnist")
    train, val = (inputs.flatten(1).double().cpu() / 255 for inputs in (train, val))
    if coordinates > train.shape[1]:
        raise UserError(f"probe.em_likelihood.coordinates={coordinates}: a picture has {train.shape[1]} pixels")
    middle = train.mean(0)
    directions = torch.linalg.eigh(torch.cov(train.T)).eigenvectors[:, -coordinates:]
    return (train - middle) @ directions, (val - middle) @ directions
