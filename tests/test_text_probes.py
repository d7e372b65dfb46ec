"""Probes of language models and translators, and counting n-grams, on texts where the answer is known."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.compose import compose
from dl_zoo.data.multi30k import Multi30k
from dl_zoo.data.tinyshakespeare import TinyShakespeare
from dl_zoo.errors import UserError
from dl_zoo.from_scratch.ngram import NGram
from dl_zoo.probes.long_sentences import long_sentences
from dl_zoo.probes.ngram import ngram
from dl_zoo.probes.short_context import short_context
from dl_zoo.probing import build

REAL = Path(os.environ.get("DL_ZOO_DATA", "data"))


def drawn(count: int, symbols: int = 5, seed: int = 0) -> Tensor:
    """A text in which what follows hangs on what was: x_t is x_(t-1) + 1 but in one case of three."""
    generator = torch.Generator().manual_seed(seed)
    free = torch.randint(symbols, (count,), generator=generator)
    steps = torch.where(torch.rand(count, generator=generator) < 2 / 3, 1, free)
    return steps.cumsum(0) % symbols


def text(train: Tensor, val: Tensor, symbols: int = 5, context: int = 8) -> Any:
    return SimpleNamespace(splits={"train": train, "val": val}, dims={"vocab_size": symbols}, context=context)


# ---- n-grams ---------------------------------------------------------------------------------------------------------


def by_hand(train: list[int], history: tuple[int, ...], symbol: int, symbols: int) -> float:
    """The formula of the file's head, by dictionaries and recursion."""
    shorter = 1 / symbols if not history else by_hand(train, history[1:], symbol, symbols)
    if not history:
        after = Counter(train)
    else:
        n = len(history)
        after = Counter(train[at + n] for at in range(len(train) - n) if tuple(train[at : at + n]) == history)
    if not history or after:
        return (after[symbol] + len(after) * shorter) / (after.total() + len(after))
    return by_hand(train, history[1:], symbol, symbols)


def test_an_ngram_model_is_the_formula() -> None:
    train, tried = drawn(60), drawn(25, seed=1)
    for n, p in enumerate(NGram(train, 5, 4).probabilities(tried), start=1):
        for place in range(len(tried)):
            history = tuple(tried[max(0, place - n + 1) : place].tolist())
            assert float(p[place]) == pytest.approx(by_hand(train.tolist(), history, int(tried[place]), 5), rel=1e-12)


@pytest.mark.parametrize("history", [[], [3], [0, 1, 2], [4, 4, 4], [6, 6]])
def test_probabilities_sum_to_one(history: list[int]) -> None:
    """Behind histories that were seen, that were not, and with symbols that were not."""
    model = NGram(drawn(200), 7, 4)
    behind = [list(model.probabilities(torch.tensor([*history, symbol]))) for symbol in range(7)]
    for n in range(4):
        assert sum(float(each[n][-1]) for each in behind) == pytest.approx(1, rel=1e-12)
        assert all(float(each[n][-1]) > 0 for each in behind)


def test_a_longer_history_tells_more_of_such_a_text_and_no_more_than_there_is() -> None:
    found = ngram(None, text(drawn(20_000), drawn(5_000, seed=1)), model=NGram, order=3)
    share = 2 / 3 + 1 / 15  # of the likely symbol; four others share the rest
    entropy = -share * math.log(share) - 4 / 15 * math.log(1 / 15)
    assert found["ngram/nats_1"] == pytest.approx(math.log(5), abs=0.01)
    assert found["ngram/nats_2"] == pytest.approx(entropy, abs=0.03)
    assert found["ngram/nats_3"] == pytest.approx(entropy, abs=0.03)


def test_orders_that_cannot_be() -> None:
    for order, words in ((0, "from 1 to"), (61, "from 1 to"), (28, "64 bits")):
        with pytest.raises(ValueError, match=words):
            NGram(drawn(60), 5, order)
    assert len(NGram(drawn(60), 5, 27).nats(drawn(10))) == 27  # a text that is shorter than the order


@pytest.mark.skipif(not (REAL / "tinyshakespeare").is_dir(), reason="no tinyshakespeare in DL_ZOO_DATA")
def test_the_floors_of_shakespeare() -> None:
    """As another implementation has them: unigram to Witten-Bell 6-gram, the fifth the best."""
    data = TinyShakespeare({"vocab_size": None}, data_dir=str(REAL))
    data.setup()
    probe = build(compose(["model=gpt_char", "probe=[ngram]"]), "ngram")
    assert [round(nats, 3) for nats in probe(None, data).values()] == [3.347, 2.486, 2.049, 1.774, 1.669, 1.698]


def test_a_text_is_asked_for() -> None:
    for data in (SimpleNamespace(), SimpleNamespace(splits={"train": (torch.zeros(2), torch.zeros(2))})):
        with pytest.raises(UserError, match="one long text"):
            ngram(None, data, model=NGram)


# ---- a language model with its context cut ---------------------------------------------------------------------------


class Far(nn.Module):
    """Sure of the symbol `back` places before the one to guess; without a guess where it cannot see that far."""

    def __init__(self, back: int, symbols: int = 5):
        super().__init__()
        self.back, self.symbols = back, symbols
        self.sure = nn.Parameter(torch.tensor(100.0))

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        logits = torch.zeros(*tokens.shape, self.symbols)
        if tokens.shape[1] >= self.back:
            seen = tokens[:, : tokens.shape[1] - self.back + 1]
            logits[:, self.back - 1 :] = self.sure * F.one_hot(seen, self.symbols)
        return logits, None


@pytest.mark.parametrize(
    ("back", "tokens", "gap"), [(6, 4, math.log(5)), (4, 4, 0.0), (6, 6, 0.0), (8, 7, math.log(5))]
)
def test_a_cut_context_costs_who_looks_further(back: int, tokens: int, gap: float) -> None:
    repeated = torch.randint(5, (back,), generator=torch.Generator().manual_seed(0)).repeat(60)
    task = SimpleNamespace(net=Far(back))
    found = short_context(task, text(repeated, repeated), tokens=tokens, items=90)
    assert found["short_context/full"] == pytest.approx(0, abs=1e-6)
    assert found["short_context/gap"] == pytest.approx(gap, abs=1e-5)
    assert found["short_context/cut"] == pytest.approx(gap, abs=1e-5)


def test_mistaken_numbers_of_a_cut_context() -> None:
    task, data = SimpleNamespace(net=Far(2)), text(drawn(50), drawn(50))
    for numbers in ({"tokens": 9}, {"tokens": 0}, {"items": 0}):
        with pytest.raises(UserError, match=r"must be from 1|at least 1"):
            short_context(task, data, **numbers)
    with pytest.raises(UserError, match="one long text"):
        short_context(task, SimpleNamespace(splits={"val": None}, context=8))


# ---- a translator on long sentences ----------------------------------------------------------------------------------


class Sure(nn.Module):
    """Says the word 1, with odds of e^2 where the sentence has up to 3 words and of 1 where it has more."""

    def __init__(self) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(2.0))

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor) -> tuple[Tensor, None]:
        odds = torch.where(lengths <= 4, self.sure, 0.0)[:, None].expand(target.shape)
        return torch.stack([torch.zeros_like(odds), odds], dim=2), None


class Sentences:
    def loader(self, split: str) -> Iterator[Any]:
        assert split == "test"
        lengths = torch.tensor([4, 5, 2])  # with <eos>
        targets = torch.tensor([[1, 1, -100], [1, 1, 1], [1, -100, -100]])
        yield (torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 3, dtype=torch.long), lengths), targets


def test_long_sentences_are_counted_apart() -> None:
    found = long_sentences(SimpleNamespace(net=Sure()), Sentences(), tokens=3)
    short = math.log1p(math.exp(-2))
    expected = {"short": short, "long": math.log(2), "rise": math.log(2) - short, "share": 1 / 3}
    assert found == {f"long_sentences/{name}": pytest.approx(value) for name, value in expected.items()}
    with pytest.raises(UserError, match="on one side"):
        long_sentences(SimpleNamespace(net=Sure()), Sentences(), tokens=9)


def test_other_data_have_no_sentences() -> None:
    data = SimpleNamespace(loader=lambda split: [(torch.zeros(2, 3), torch.zeros(2))])
    with pytest.raises(UserError, match="pairs of sentences"):
        long_sentences(SimpleNamespace(net=Sure()), data)


# ---- fewer pairs -----------------------------------------------------------------------------------------------------


def test_the_first_pairs_alone_are_trained_on(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.de").write_text("ein Hund\n\nzwei Katzen\neine Ziege\n", encoding="utf-8")
        (tmp_path / f"{split}.en").write_text("a dog\nnothing\ntwo cats\na goat\n", encoding="utf-8")
    dims = {"vocab_size": None, "context": None, "pad_id": None}
    data = Multi30k(dims, path=str(tmp_path), merges=60, train_items=2)
    data.setup()
    assert data.sources("train") == ["ein Hund", "zwei Katzen"], "an empty line is not counted"
    assert data.sizes == {"train": 2, "val": 4, "test": 4}
    assert data.words is not None
    assert not any("goat" in each or "Ziege" in each for each in data.words.symbols)
    with pytest.raises(UserError, match="train_items=0: must be at least 1"):
        Multi30k(dims, path=str(tmp_path), train_items=0)
