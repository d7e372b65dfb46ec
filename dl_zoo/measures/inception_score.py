"""The inception score: does a classifier know what each picture is, and does it see all classes?

Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen, "Improved Techniques for Training GANs", 2016, arXiv:1606.03498,
section 4, with p(y) the mean of p(y | x):

    exp(mean over x of KL(p(y | x) || p(y)))

From 1, where all pictures look alike to it, to the number of classes, where it is sure of each and they are equally
many. Departure: the score of all pictures at once, where the paper's code takes the mean over ten parts.
"""

from torch import Tensor


def inception_score(logits: Tensor) -> float:
    """Of a classifier's logits (N, K).

    >>> import torch
    >>> round(inception_score(100 * torch.eye(10)), 4), inception_score(torch.zeros(5, 10))
    (10.0, 1.0)
    """
    log_p = logits.detach().double().log_softmax(1)
    mean = log_p.exp().mean(0).clamp(min=1e-300).log()  # (K,): log p(y)
    return float((log_p.exp() * (log_p - mean)).sum(1).mean().exp())
