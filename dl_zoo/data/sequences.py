"""Generated sequences with one right answer: to reverse, to sort, to copy, and to recall what a key stood for.

What they ask of a net is known: copying, one place by another; reversing, the place counted from the other end, which
tells nets that know positions from those that do not; sorting, all places by content (the greatest symbol may stand
anywhere). Recall is a pair of key and value, some time before, found by its content: Ba, Hinton, Mnih, Leibo, Ionescu,
"Using Fast Weights to Attend to the Recent Past", 2016, arXiv:1610.06258, section 4.1; how far back it lies is what
separates nets with a path of length 1 between places from those that carry a state along.
"""

import string
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dl_zoo.data.drawn import SPLITS, Drawn
from dl_zoo.data.memory import at_least_one
from dl_zoo.data.pairs import PairData, Pairs, paired
from dl_zoo.data.sources import Inputs
from dl_zoo.data.text import IGNORED, agreed
from dl_zoo.data.vocabulary import SPECIALS, Characters, Words
from dl_zoo.errors import UserError

WORK: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of one sequence (L,)
    "copy": lambda row: row,
    "reverse": lambda row: row[::-1],
    "sort": np.sort,
}
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase  # in the order of their codes
SEPARATOR = "~"  # behind them


class Sequences(Drawn):
    """Tensors (N, T) int64 of ids as inputs and as targets; a subclass draws them.

    dims.num_classes is the size of the vocabulary, since an answer is a symbol.

    Args:
        names: of the ids, a character each in the order of their codes; empty where there are too many.
        count: of the ids.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        names: str,
        count: int,
        **settings: Any,
    ):
        super().__init__(dims, **settings)
        self.count = count
        self.words = Characters(names) if names else None
        self.vocabulary = None if self.words is None else self.words.plain()

    def facts(self, inputs: Inputs) -> dict[str, Any]:
        return {"vocab_size": self.count, "context": inputs.shape[1], "num_classes": self.count, "pad_id": None}


class Rewritten(Sequences):
    """A sequence x and what becomes of it, y; both of `length` symbols out of `vocab`.

    `form: tags`: inputs x, targets y. `form: prefix`, for nets that only continue: inputs "x ~ y" without its last
    symbol, targets the symbol that follows, -100 up to the sign.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        work: str,
        form: str = "tags",
        length: int = 10,
        vocab: int = 10,
        **settings: Any,
    ):
        checked_work(work, length, vocab)
        if form not in ("tags", "prefix"):
            raise UserError(f"data.form={form}: must be tags or prefix; data=reverse_pairs has pairs to translate")
        sign = SEPARATOR if form == "prefix" else ""
        names = ALPHABET[:vocab] + sign if vocab <= len(ALPHABET) else ""
        super().__init__(dims, names=names, count=vocab + len(sign), **settings)
        self.work, self.form, self.length, self.vocab = work, form, length, vocab

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = random.randint(self.vocab, size=(count, self.length))
        answers = np.stack([WORK[self.work](row) for row in rows])
        if self.form == "tags":
            return rows, answers
        whole = np.concatenate([rows, np.full((count, 1), self.vocab), answers], axis=1)  # (N, 2 L + 1)
        targets = whole[:, 1:].copy()
        targets[:, : self.length] = IGNORED
        return whole[:, :-1], targets


class RewrittenPairs(PairData):
    """The same as sentences to translate, of `shortest` to `length` symbols: batches as `pairs.PairLoader` makes them.

    Symbols have the ids from 4 on; `sources` and `references` are their names, in the order of `loader(split)`.
    """

    takes_vocabulary = False  # an id stands for its symbol, whatever another run's may mean

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        work: str,
        length: int = 10,
        shortest: int | None = None,
        vocab: int = 10,
        train_items: int = 10_000,
        eval_items: int = 1_000,
        batch_tokens: int = 1024,
        **settings: Any,
    ):
        super().__init__(dims, batch_tokens=batch_tokens, **settings)
        checked_work(work, length, vocab)
        shortest = length if shortest is None else shortest
        for key, value in {"train_items": train_items, "eval_items": eval_items, "shortest": shortest}.items():
            at_least_one(key, value)
        if shortest > length:
            raise UserError(f"data.shortest={shortest}: must be at most data.length={length}")
        self.work, self.length, self.shortest, self.vocab = work, length, shortest, vocab
        self.sizes = {"train": train_items, "val": eval_items, "test": eval_items}

    def read(self) -> dict[str, Pairs]:
        self.settle(self.fitted)
        return {name: self.draw(draw, self.sizes[name]) for draw, name in enumerate(SPLITS)}

    def fitted(self) -> Words:
        return Words([str(each) for each in range(self.vocab)])

    def draw(self, draw: int, count: int) -> Pairs:
        random = np.random.RandomState(draw)
        lengths = random.randint(self.shortest, self.length + 1, size=count)
        rows = [random.randint(self.vocab, size=length) for length in lengths]
        answers = [WORK[self.work](row) for row in rows]
        sources, targets = ([(row + len(SPECIALS)).tolist() for row in some] for some in (rows, answers))
        return paired(sources, targets)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "context": self.length + 1}

    def sources(self, split: str) -> list[str]:
        self.setup()
        return self.named(self.splits[split][0])

    def references(self, split: str) -> list[str]:
        self.setup()
        return self.named(self.splits[split][1])

    def named(self, ids: Tensor) -> list[str]:
        assert self.words is not None
        return [self.words.decode(row) for row in ids.tolist()]

    def pretend(self, items: int) -> None:
        self.settle(self.fitted)
        self.dims = agreed(self.dims, self.facts())
        self.splits = dict.fromkeys(SPLITS, self.draw(len(SPLITS), items))


class AssociativeRecall(Sequences):
    """Keys and their values, k v k v ... and at the end one of the keys again: what was its value?

    The net sees `length` tokens, targets are -100 but for the last, whose target is the value. The pairs lie in places
    of two tokens; where there are more places than `pairs`, those between hold blanks, so that `length` sets the time
    to bridge and `pairs` how much is to be remembered.

    Args:
        pairs: in a sequence; all keys in it differ.
        length: of the sequence with the question, odd; None: 2 pairs + 1, without blanks.
        distance: tokens from the question back to the key that it asks for, even; None: any place of a pair.
        keys, values: how many symbols there are of each. Ids: the blank 0, then the values, then the keys.
    """

    def __init__(
        self,
        dims: Mapping[str, Any],
        *,
        pairs: int = 4,
        length: int | None = None,
        distance: int | None = None,
        keys: int = 26,
        values: int = 10,
        **settings: Any,
    ):
        for key, value in {"pairs": pairs, "keys": keys, "values": values}.items():
            at_least_one(key, value)
        digits, letters = string.digits[:values], string.ascii_lowercase[:keys]
        names = "." + digits + letters if (len(digits), len(letters)) == (values, keys) else ""
        super().__init__(dims, names=names, count=1 + values + keys, **settings)
        length = 2 * pairs + 1 if length is None else length
        at_least_one("length", length)
        if pairs > keys:
            raise UserError(f"data.pairs={pairs}: each has a key of its own, and data.keys={keys}")
        if length % 2 == 0 or length < 2 * pairs + 1:
            raise UserError(f"data.length={length}: must be odd, and at least {2 * pairs + 1} for {pairs} pairs")
        if distance is not None and not (2 <= distance < length and distance % 2 == 0):
            raise UserError(f"data.distance={distance}: must be even, from 2 to {length - 1}")
        self.pairs, self.length, self.distance, self.keys, self.values = pairs, length, distance, keys, values

    def drawn(self, random: np.random.RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
        places = (self.length - 1) // 2
        order = random.rand(count, places)  # the `pairs` least are where pairs lie, the least of all is asked for
        if self.distance is not None:
            order[:, places - self.distance // 2] = -1
        at = order.argsort(axis=1)[:, : self.pairs]  # (N, P)
        keys = random.rand(count, self.keys).argsort(axis=1)[:, : self.pairs]  # all different
        keys += 1 + self.values
        values = random.randint(1, 1 + self.values, size=(count, self.pairs))
        tokens = np.zeros((count, self.length), dtype=np.int64)  # blanks
        np.put_along_axis(tokens, 2 * at, keys, axis=1)
        np.put_along_axis(tokens, 2 * at + 1, values, axis=1)
        tokens[:, -1] = keys[:, 0]
        targets = np.full_like(tokens, IGNORED)
        targets[:, -1] = values[:, 0]
        return tokens, targets

    def distances(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """How many places before a question its key stands, 0 where nothing is asked; all (B, T)."""
        return places_back(tokens, tokens.masked_fill(targets == IGNORED, IGNORED))


def places_back(tokens: Tensor, wanted: Tensor) -> Tensor:
    """How many places before each the token that is wanted there stood last, 0: nowhere; all (B, T).

    >>> places_back(torch.tensor([[7, 1, 8, 7, 9]]), torch.tensor([[7, 9, 1, 7, 8]]))
    tensor([[0, 0, 1, 3, 2]])
    """
    place = torch.arange(tokens.shape[1])
    back = place[:, None] - place  # (T, T), positive for what stands before
    same = (tokens[:, None] == wanted[:, :, None]) & (back > 0)  # (B, T, T)
    return torch.where(same, back, tokens.shape[1]).amin(2) * same.any(2)


def checked_work(work: str, length: int, vocab: int) -> None:
    if work not in WORK:
        raise UserError(f"data.work={work}: must be one of {', '.join(WORK)}")
    at_least_one("length", length)
    at_least_one("vocab", vocab)
