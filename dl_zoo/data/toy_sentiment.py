"""Toy sentiment: generated verdicts on films, such as "though the plot was not dull , the acting was poor".

What a sentence says is what its main clause says. `not` turns an adjective round, and a clause that begins with
`though`, before the main one or behind it, does not count. So the same words in another order can mean the opposite:
naive Bayes is right in 62 of 100, with pairs of words in 70.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_zoo.data.memory import at_least_one
from dl_zoo.data.sentences import Sentences

NOUNS = ("film", "plot", "acting", "music", "ending", "dialogue", "cast", "story")
DEGREES = ("", "", "very", "rather", "so")
GOOD = ("good", "funny", "moving", "clever", "fresh", "gripping")
BAD = ("bad", "dull", "poor", "silly", "stale", "tedious")


class ToySentiment(Sentences):
    """See `Sentences`; each split is a draw of its own, the same whatever the seed of a run.

    Args:
        train_items: of the training set.
        eval_items: of the validation set, and of the test set.
    """

    classes = ["negative", "positive"]  # noqa: RUF012
    origin = "toy_sentiment"
    usual_size = 28

    def __init__(self, dims: Mapping[str, Any], *, train_items: int = 4000, eval_items: int = 1000, **settings: Any):
        super().__init__(dims, **settings)
        at_least_one("train_items", train_items)
        at_least_one("eval_items", eval_items)
        self.sizes = {"train": train_items, "val": eval_items, "test": eval_items}

    def texts(self) -> dict[str, list[tuple[str, int]]]:
        return {
            name: drawn(np.random.RandomState(draw), count) for draw, (name, count) in enumerate(self.sizes.items())
        }


def drawn(random: np.random.RandomState, count: int) -> list[tuple[str, int]]:
    return [sentence(random) for _ in range(count)]


def sentence(random: np.random.RandomState) -> tuple[str, int]:
    """A verdict and whether it is favourable.

    >>> sentence(np.random.RandomState(1))
    ('though the story was stale , the dialogue was not rather dull', 1)
    """
    main, label = clause(random)
    form = random.randint(3)
    if form == 0:
        return main, label
    aside, _ = clause(random)
    return (f"though {aside} , {main}" if form == 1 else f"{main} , though {aside}"), label


def clause(random: np.random.RandomState) -> tuple[str, int]:
    noun, degree = NOUNS[random.randint(len(NOUNS))], DEGREES[random.randint(len(DEGREES))]
    good, turned = random.randint(2), random.randint(3) == 0
    adjective = (GOOD if good else BAD)[random.randint(len(GOOD))]
    words = ["the", noun, "was", "not" if turned else "", degree, adjective]
    return " ".join(word for word in words if word), int(good != turned)
