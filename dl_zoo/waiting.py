"""A bar with the time left, for what takes long and is no training: on a terminal, after a second, gone when done."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SHOWN = {"delay": 1, "leave": False, "disable": None, "smoothing": 0}  # disable=None: where stderr is no terminal


def waiting(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """The items, counted as they are taken; `total` where they cannot be counted beforehand."""
    return tqdm(items, what, total, **SHOWN)


@contextmanager
def passes(net: Any, what: str, total: int | None) -> Iterator[None]:
    """Counts how often a net (`nn.Module`) is asked meanwhile."""
    with tqdm(desc=what, total=total, **SHOWN) as bar:
        hook = net.register_forward_hook(lambda *_: bar.update() and None)
        try:
            yield
        finally:
            hook.remove()
