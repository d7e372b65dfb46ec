"""What forecasters share: what they are shown of a series, and what their answer is added to.

A series drifts: next year's level is not last year's. So the last value is taken off what the net sees and added to
what it says, which then is a change (NLinear in Zeng, Chen, Zhang, Xu 2023, "Are Transformers Effective for Time
Series Forecasting?", arXiv:2205.13504, section 4.1).

    base="last"      y = x_T + net(x - x_T)
    base="season"    y_h = x_(T + h - season, or as many seasons earlier as it takes) + net(x - x_T)_h
    base="none"      y = net(x)

With `separate`, each column is a series of its own, all by the same weights (Nie, Nguyen, Sinthong, Kalagnanam 2023,
arXiv:2211.14730, section 3.1: channel independence): few parameters, and as many more examples as there are columns.

Letters: B windows, T steps of context, F columns, H steps ahead, K columns to forecast, which are the first K of F.
"""

import torch
from torch import Tensor

BASES = ("none", "last", "season")


def require(base: str, season: int, context: int, input_size: int, num_targets: int, **counts: int) -> None:
    """ValueError where these arguments of a forecaster make none."""
    if base not in BASES:
        raise ValueError(f"base={base!r} is not one of {', '.join(BASES)}")
    for name, value in {"season": season, "context": context, **counts}.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    if base == "season" and context < season:
        raise ValueError(f"base=season needs a context of a season: context={context} is below season={season}")
    if not 1 <= num_targets <= input_size:
        raise ValueError(f"num_targets={num_targets} must be from 1 to input_size={input_size}")


def shown(x: Tensor, targets: int, base: str, separate: bool) -> Tensor:
    """(B, T, F) -> what the layers read: the same shape, or (B K, T, 1) where columns are `separate`."""
    x = x if base == "none" else x - x[:, -1:]
    return x[:, :, :targets].transpose(1, 2).flatten(0, 1).unsqueeze(2) if separate else x


def forecast(y: Tensor, x: Tensor, targets: int, base: str, season: int) -> Tensor:
    """What the layers say, (B, H K) or (B K, H), put upon the base: (B, H, K)."""
    separate = len(y) != len(x)
    y = y.unflatten(0, (-1, targets)).transpose(1, 2) if separate else y.unflatten(1, (-1, targets))
    return y if base == "none" else y + based(x[:, :, :targets], y.shape[1], base, season)


def based(x: Tensor, horizon: int, base: str, season: int) -> Tensor:
    """(B, T, K) -> (B, 1, K) or (B, H, K).

    >>> based(torch.arange(6.0).view(1, 6, 1), 4, "season", 3).flatten().tolist()
    [3.0, 4.0, 5.0, 3.0]
    """
    if base == "last":
        return x[:, -1:]
    return x[:, torch.arange(horizon, device=x.device) % season - season]
