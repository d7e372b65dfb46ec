"""Which classes a classifier sees in what was made up, how evenly, and how sure it is of them."""

import torch
from torch import Tensor

SURE = 0.9  # probability of the likeliest class
COVERED = 0.2  # of an even share: 2 % of ten classes


def predicted_classes(logits: Tensor) -> dict[str, float]:
    """Of a classifier's logits (N, K).

        classes      how many have at least a fifth of an even share of the items: 2 % where there are ten
        entropy      of the classes' shares, in nats: log K where all are equally many, 0 where there is one
        confident    share of the items whose likeliest class has more than 0.9

    >>> predicted_classes(torch.tensor([[9.0, 0.0], [9.0, 0.0], [1.0, 0.0], [9.0, 0.0]]))
    {'classes': 1.0, 'entropy': 0.0, 'confident': 0.75}
    """
    probabilities, answers = logits.detach().double().softmax(1).max(1)
    shares = answers.bincount(minlength=logits.shape[1]) / len(answers)
    covered = shares >= COVERED / logits.shape[1]
    return {
        "classes": float(covered.sum()),
        "entropy": max(0.0, float(torch.special.entr(shares).sum())),
        "confident": float((probabilities > SURE).double().mean()),
    }
