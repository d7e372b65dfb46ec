"""Generated sequences: the answer is the right one, each split is its own, and the forms say the same."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from torch import Tensor

from dl_zoo.data.copy_memory import CopyMemory
from dl_zoo.data.recall_stream import RecallStream
from dl_zoo.data.sequences import AssociativeRecall, Rewritten, RewrittenPairs
from dl_zoo.errors import UserError

CONFIGS = Path(__file__).parent.parent / "configs" / "data"
RIGHT = {"copy": lambda row: row, "reverse": lambda row: row.flip(0), "sort": lambda row: row.sort().values}
every_work = pytest.mark.parametrize("work", sorted(RIGHT))


def made(kind: type[Any] = Rewritten, **settings: Any) -> Any:
    data = kind({}, **{"train_items": 60, "eval_items": 40, "batch_size": 16, **settings})
    data.setup()
    return data


@every_work
def test_tags(work: str) -> None:
    data = made(work=work, length=7, vocab=5)
    assert data.dims == {"vocab_size": 5, "context": 7, "num_classes": 5, "pad_id": None}
    assert data.sizes == {"train": 60, "val": 40, "test": 40}
    inputs, targets = data.splits["train"]
    assert (inputs.dtype, tuple(inputs.shape), targets.dtype) == (torch.int64, (60, 7), torch.int64)
    assert all(torch.equal(RIGHT[work](x), y) for x, y in zip(inputs, targets, strict=True))
    assert set(inputs.flatten().tolist()) == set(range(5))
    assert sum(len(y) for _, y in data.train_dataloader()) == 60


@every_work
def test_prefix_asks_for_the_answer_alone(work: str) -> None:
    data = made(work=work, form="prefix", length=6, vocab=5)
    assert (data.dims["vocab_size"], data.dims["context"]) == (6, 12)
    for x, y in zip(*data.splits["val"], strict=True):
        assert y[:6].tolist() == [-100] * 6
        assert torch.equal(y[6:], RIGHT[work](x[:6]))
        assert torch.equal(y[6:-1], x[7:]), "the next token"
        assert x[6] == 5
    assert data.words.decode(x.tolist())[6] == "~"


@every_work
def test_pairs(work: str) -> None:
    data = made(RewrittenPairs, work=work, length=9, shortest=2, vocab=12, batch_tokens=50)
    assert data.dims == {"vocab_size": 16, "context": 10, "pad_id": 0}
    answer = {"copy": list, "reverse": lambda row: row[::-1], "sort": lambda row: sorted(row, key=int)}[work]
    sources, references = data.sources("val"), data.references("val")
    assert [" ".join(answer(line.split())) for line in sources] == references
    assert {len(line.split()) for line in sources} == set(range(2, 10))
    written = [line for _, y in data.loader("val") for line in lines(data, y)]
    assert written == references, "in the loader's order"


def lines(data: Any, targets: Tensor) -> list[str]:
    return [data.words.decode(row[row >= 0].tolist()) for row in targets]


def test_splits_are_the_same_for_every_seed_and_differ_from_one_another() -> None:
    for kind in (Rewritten, RewrittenPairs):
        one, other = made(kind, work="copy", seed=1), made(kind, work="copy", seed=2)
        for split in one.splits:
            assert all(torch.equal(a, b) for a, b in zip(one.splits[split], other.splits[split], strict=True))
        assert not torch.equal(one.splits["val"][0], one.splits["test"][0])
        orders = [torch.cat([y[:, 0] for _, y in data.train_dataloader()]) for data in (one, other)]
        assert not torch.equal(*orders), "but the order is the run's"


@pytest.mark.parametrize(("length", "distance"), [(None, None), (41, None), (41, 40), (41, 2), (9, 4)])
def test_recall(length: int | None, distance: int | None) -> None:
    data = AssociativeRecall({}, pairs=4, length=length, distance=distance, train_items=300, eval_items=20)
    data.setup()
    inputs, targets = data.splits["train"]
    assert inputs.shape[1] == data.dims["context"] == (length or 9)
    assert data.dims["vocab_size"] == 37
    assert (targets[:, :-1] == -100).all()
    back = set()
    for x, y in zip(inputs.tolist(), targets[:, -1].tolist(), strict=True):
        keys, values = x[:-1:2], x[1:-1:2]
        assert [key > 10 for key in keys] == [1 <= value <= 10 for value in values], "a blank is a blank in both"
        shown = [key for key in keys if key]
        assert len(shown) == len(set(shown)) == 4
        place = keys.index(x[-1])
        assert values[place] == y
        back.add(len(x) - 1 - 2 * place)
    assert back == ({distance} if distance else set(range(2, len(x), 2)))


@pytest.mark.parametrize(("pairs", "length", "keys", "values"), [(4, 30, 8, 8), (1, 2, 3, 5), (6, 7, 6, 2)])
def test_recall_stream(pairs: int, length: int, keys: int, values: int) -> None:
    settings = {"pairs": pairs, "length": length, "keys": keys, "values": values}
    data = RecallStream({}, **settings, train_items=300, eval_items=20)
    data.setup()
    inputs, targets = data.splits["train"]
    count = keys * (values + 1)
    assert inputs.shape == (300, length)
    assert data.dims == {"vocab_size": count, "context": length, "num_classes": count, "pad_id": None}
    back = data.distances(inputs, targets)
    for tokens, wanted, distances in zip(inputs.tolist(), targets.tolist(), back.tolist(), strict=True):
        said = {token // values: place for place, token in enumerate(tokens[:pairs])}
        assert len(said) == pairs, "a key has one value"
        assert max(tokens[:pairs]) < keys * values <= min(tokens[pairs:])
        assert wanted[:pairs] == [-100] * pairs
        assert distances[:pairs] == [0] * pairs
        for place in range(pairs, length):
            source = said[tokens[place] - keys * values]
            assert (wanted[place], distances[place]) == (tokens[source], place - source)
    assert set(back.flatten().tolist()) == set(range(length)), "all distances are asked"


def test_recall_beyond_the_alphabet_has_no_names() -> None:
    data = AssociativeRecall({}, pairs=40, keys=100, values=3, train_items=5, eval_items=5)
    data.setup()
    assert data.dims["vocab_size"] == 104
    assert data.words is data.vocabulary is None


@pytest.mark.parametrize("form", ["tags", "prefix"])
@pytest.mark.parametrize(
    "name", ["reverse", "sort", "copy", "reverse_pairs", "associative_recall", "recall_stream", "copy_memory"]
)
def test_a_preflight_has_the_true_shape(name: str, form: str) -> None:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) | {"data_dir": "data", "seed": 0}
    content |= {"dims": dict.fromkeys(content["dims"]), "train_items": 30, "eval_items": 30}
    del content["card"]
    content |= {"form": form} if "form" in content else {}
    real, pretended = instantiate(content), instantiate(content)
    assert real.sizes == {"train": 30, "val": 30, "test": 30}, "known before"
    real.setup()
    pretended.pretend(12)
    assert pretended.dims == real.dims
    assert pretended.sizes == real.sizes
    one, other = (next(iter(data.loader("val"))) for data in (real, pretended))
    assert [type(each) for each in one] == [type(each) for each in other]
    assert len(other[1]) == 12


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"work": "undo"}, "data.work=undo: must be one of copy, reverse, sort"),
        (
            {"work": "copy", "form": "pairs"},
            "data.form=pairs: must be tags or prefix; data=reverse_pairs has pairs to translate",
        ),
        ({"work": "copy", "kind": RewrittenPairs, "shortest": 11}, "data.shortest=11: must be at most data.length=10"),
        ({"work": "copy", "length": 0}, "data.length=0: must be at least 1"),
        ({"work": "copy", "train_items": 0}, "data.train_items=0: must be at least 1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        made(**settings)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pairs": 27}, "data.pairs=27: each has a key of its own, and data.keys=26"),
        ({"length": 10}, "data.length=10: must be odd, and at least 9 for 4 pairs"),
        ({"length": 7}, "data.length=7: must be odd, and at least 9 for 4 pairs"),
        ({"distance": 3}, "data.distance=3: must be even, from 2 to 8"),
        ({"distance": 10}, "data.distance=10: must be even, from 2 to 8"),
    ],
)
def test_bad_recall(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        AssociativeRecall({}, **settings)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pairs": 9}, "data.pairs=9: each has a key of its own, and data.keys=8"),
        ({"length": 8}, "data.length=8: must be more than data.pairs=8, or nothing is asked"),
        ({"values": 0}, "data.values=0: must be at least 1"),
    ],
)
def test_bad_recall_stream(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        RecallStream({}, **settings)
    assert str(error.value) == words


@pytest.mark.parametrize(("length", "symbols", "vocab"), [(50, 10, 8), (1, 1, 1), (6, 3, 40)])
def test_copy_memory(length: int, symbols: int, vocab: int) -> None:
    data = made(CopyMemory, length=length, symbols=symbols, vocab=vocab)
    whole = length + 2 * symbols
    assert data.dims == {"vocab_size": vocab + 2, "context": whole, "num_classes": vocab + 2, "pad_id": None}
    for inputs, targets in zip(*data.splits["train"], strict=True):
        assert torch.equal(targets[-symbols:], inputs[:symbols])
        assert not targets[:-symbols].any()
        assert set(inputs[:symbols].tolist()) <= set(range(1, vocab + 1))
        assert inputs[symbols:].tolist() == [0] * (length - 1) + [vocab + 1] + [0] * symbols
    assert data.floor == pytest.approx(symbols * math.log(vocab) / whole)
    assert (data.words is None) == (vocab > 9)
