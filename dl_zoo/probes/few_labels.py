"""Who learns more from few labels: a classifier that models the inputs, or one that models only the answer?

Ng, Jordan, "On Discriminative vs. Generative Classifiers: A Comparison of Logistic Regression and Naive Bayes", 2001,
NIPS 14. Both choose among the same functions, linear ones of the inputs. Naive Bayes gets near its best with a number
of items that grows as the logarithm of the number of inputs; logistic regression needs as many as there are inputs, but
what it gets near is lower. So there should be two regimes, with a crossing between.

Their theory is of logistic regression that maximises the likelihood and nothing else. A penalty on its weights takes it
to other, simpler functions, so that it stands beside the two as a third.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.errors import UserError

NO_PENALTY = 1e-6  # small beside the loss, and yet items that a line separates do not send the weights off for ever
PENALTIES = (0.01, 0.1, 1.0, 10.0)
Pair = tuple[Tensor, Tensor]  # inputs (N, D), classes (N,)


def few_labels(
    task: Any, data: Any, *, generative: Callable[..., Any], sizes: Sequence[int] = (50, 1000), draws: int = 20
) -> dict[str, float]:
    """Shares of the test items that are wrong, the mean over `draws` training sets of n items for each n of `sizes`:

        few_labels/naive_bayes_<n>   by naive Bayes, `generative`, on pixels made black or white at the middle
        few_labels/logistic_<n>      by logistic regression on the same items and pixels
        few_labels/penalised_<n>     the same with a penalty s / 2 |W|^2 beside the sum of cross entropies, whose s is
                                     the one of `PENALTIES` with the fewest mistakes on the validation split

    The items are drawn by the run's seed, as many of each class, out of the training split. The net has no part in it.

    Raises:
        UserError: data that are no pictures of classes, sizes of less than one item a class or more than there are.
    """
    if not sizes or draws < 1:
        raise UserError(f"probe.few_labels: sizes={sizes} must name a number of items, and draws={draws} be at least 1")
    train, val, test = (bits(data, split) for split in ("train", "val", "test"))
    classes = len(data.classes)
    have = int(train[1].bincount(minlength=classes).min())
    generator = torch.Generator().manual_seed(data.seed)
    found: dict[str, list[float]] = {}
    for size in sizes:
        each = int(size) // classes
        if not 1 <= each <= have:
            few, many = classes, have * classes
            raise UserError(f"probe.few_labels.sizes: {size} items; there must be from {few} to {many}")
        for _ in range(draws):
            items = drawn(train, each, classes, generator)
            model = generative(*items, classes)
            found.setdefault(f"naive_bayes_{size:04}", []).append(wrong(model.log_joint(test[0]).argmax(1), test[1]))
            for name, answer in logistic(items, val, test[0]).items():
                found.setdefault(f"{name}_{size:04}", []).append(wrong(answer, test[1]))
    return {f"few_labels/{name}": float(np.mean(errors)) for name, errors in found.items()}


def logistic(items: Pair, val: Pair, asked: Tensor) -> dict[str, Tensor]:
    """What logistic regression without a penalty, and with its best, says of the inputs `asked`."""
    from sklearn.linear_model import LogisticRegression

    def fitted(strength: float) -> Any:
        return LogisticRegression(C=1 / strength, max_iter=2000).fit(items[0].numpy(), items[1].numpy())

    models = [fitted(strength) for strength in PENALTIES]
    best = max(models, key=lambda model: model.score(val[0].numpy(), val[1].numpy()))
    named = {"logistic": fitted(NO_PENALTY), "penalised": best}
    return {name: torch.from_numpy(model.predict(asked.numpy())) for name, model in named.items()}


def drawn(pair: Pair, each: int, classes: int, generator: torch.Generator) -> Pair:
    """`each` items of every class."""
    order = torch.randperm(len(pair[1]), generator=generator)
    chosen = torch.cat([order[pair[1][order] == label][:each] for label in range(classes)])
    return pair[0][chosen], pair[1][chosen]


def bits(data: Any, split: str) -> Pair:
    """The pixels of a split, 1 where nearer to white, (N, D) float64, and the classes. UserError: no pictures."""
    inputs, targets = getattr(data, "splits", {}).get(split, (None, None))
    if not isinstance(inputs, Tensor) or inputs.dtype != torch.uint8 or not isinstance(targets, Tensor):
        raise UserError("few_labels reads pictures of classes, held whole; data=digits or mnist")
    return (inputs.flatten(1) > 127).double().cpu(), targets.cpu()


def wrong(answer: Tensor, targets: Tensor) -> float:
    return float((answer != targets).double().mean())
