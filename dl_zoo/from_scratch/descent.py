"""Batch, stochastic and mini-batch gradient descent: one loop, which differs in how many items a step looks at.

The loss is a mean over N items, J(w) = 1/N sum_i J_i(w), and so is its gradient. A step may take them all, one, or B:

    w <- w - eta 1/B sum_(i in batch) dJ_i/dw

    B = N   batch gradient descent: the true gradient, one step for N items' work
    B = 1   stochastic gradient descent: N noisy steps for the same work
    else    mini-batches: N / B steps, whose noise has 1/B of the variance

An item drawn at random has the gradient dJ/dw on average, so each B goes the same way on average. In a run B is
`data.batch_size`; the loader deals the items out in a new order each epoch, as here, so that an epoch sees each once.
That makes the noise of a batch smaller than B independent draws would: by (N - B) / (N - 1), and zero at B = N.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from dl_zoo.from_scratch.update_rules import gradient_descent

Gradient = Callable[[Tensor, Tensor, Tensor], Tensor]  # of the mean loss, by w: (w, items' x, items' y) -> like w


def batches(items: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    """The indices of each batch of an epoch; the last may have fewer.

    >>> [len(batch) for batch in batches(5, 2, Generator())]
    [2, 2, 1]
    """
    yield from torch.randperm(items, generator=generator).split(batch_size)


def descend(
    gradient: Gradient, w: Tensor, x: Tensor, y: Tensor, *, lr: float, batch_size: int, epochs: int, seed: int = 0
) -> Tensor:
    """Where w was, from the start on: (1 + steps, *w.shape), with ceil(N / B) steps an epoch.

    ValueError: a batch of less than one item, or of more than there are.
    """
    if not 1 <= batch_size <= len(x):
        raise ValueError(f"batch_size={batch_size}: must be from 1 to the {len(x)} items")
    generator, path = Generator().manual_seed(seed), [w]
    for _ in range(epochs):
        for batch in batches(len(x), batch_size, generator):
            path.append(gradient_descent(path[-1], gradient(path[-1], x[batch], y[batch]), lr))
    return torch.stack(path)
