"""What counting says about a text: the floors that a language model must get below to have learnt more than counts.

Witten, Bell, "The Zero-Frequency Problem", 1991, method C: see `from_scratch.ngram`, which the YAML names.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dl_zoo.errors import UserError


def ngram(task: Any, data: Any, *, model: Callable[..., Any], order: int = 6) -> dict[str, float]:
    """Cross entropy of n-gram models of the training text on all of the validation text, in nats a token.

    ngram/nats_1 .. nats_<order>: nats_n with n - 1 tokens of history. The net has no part in it.

    Raises:
        UserError: data that are not one long text.
        ValueError: an order that the text or its vocabulary is too small or too large for.
    """
    counts = model(long_text(data, "train"), int(data.dims["vocab_size"]), order)
    nats = counts.nats(long_text(data, "val"))
    return {f"ngram/nats_{n}": value for n, value in enumerate(nats, start=1)}


def long_text(data: Any, split: str) -> Tensor:
    """The ids (N,) of a split, on the CPU. UserError where the data are not one long text."""
    ids = getattr(data, "splits", {}).get(split)
    if not isinstance(ids, Tensor) or ids.dim() != 1:
        raise UserError("it reads one long text, which these data are not; take data=tinyshakespeare or text_file")
    return ids.cpu()
