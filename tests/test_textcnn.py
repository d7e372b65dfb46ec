"""Sentences and the convolution over them: the net, the toy verdicts, folds, and the floor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Said, one_line, trained

from dl_zoo.compose import compose
from dl_zoo.data.toy_sentiment import ToySentiment, drawn
from dl_zoo.models.textcnn import TextCNN
from dl_zoo.probes.naive_bayes import naive_bayes


def small(**settings: Any) -> TextCNN:
    torch.manual_seed(0)
    return TextCNN(**{"vocab_size": 12, "embedding": 5, "windows": (2, 3), "filters": 4, "dropout": 0.0, **settings})


def test_equations_word_by_word() -> None:
    """c_i = relu(w x_(i..i+h-1) + b) over all windows that touch the sentence, and the largest of each filter."""
    net, words = small().eval(), [3, 7, 1, 9]
    vectors = net.embedding.weight.detach()
    z = []
    for window, conv in zip((2, 3), net.convs, strict=True):
        around = [0] * (window - 1) + words + [0] * (window - 1)
        every = [
            F.relu(torch.einsum("feh,he->f", conv.weight, vectors[around[i : i + window]]) + conv.bias)
            for i in range(len(around) - window + 1)
        ]
        z.append(torch.stack(every).amax(0))
    expected = net.head(torch.cat(z))
    assert torch.allclose(net(torch.tensor([words]))[0], expected, atol=1e-6)


def test_padding_changes_nothing() -> None:
    net = small()
    for conv in net.convs:
        conv.bias.detach().fill_(3.0)  # what padding alone would answer
    ids = torch.tensor([[3, 7, 1], [5, 0, 0]])
    more = F.pad(ids, (0, 6))
    assert torch.allclose(net(ids), net(more), atol=1e-6)
    assert torch.allclose(net(ids)[1], net(torch.tensor([[5]]))[0], atol=1e-6)
    net(more).sum().backward()
    assert not net.embedding.weight.grad[0].any()


def test_a_filter_tells_its_phrase() -> None:
    net = small(windows=(2,), filters=1)
    with torch.no_grad():
        net.embedding.weight.zero_()
        net.embedding.weight[7, 0] = net.embedding.weight[1, 1] = 1.0
        net.convs[0].weight.zero_()
        net.convs[0].weight[0, 0, 0] = net.convs[0].weight[0, 1, 1] = 1.0  # 7, then 1
        net.convs[0].bias.zero_()
    ((window, places, answers),) = net.phrases(torch.tensor([[3, 3, 7, 1, 3], [7, 1, 3, 3, 0]]))
    assert window == 2
    assert places.flatten().tolist() == [2, 0]
    assert answers.flatten().tolist() == [2.0, 2.0]


@pytest.mark.parametrize("windows", [(), (0, 3)])
def test_wrong_windows(windows: Any) -> None:
    with pytest.raises(ValueError, match="must be one length of at least 1 word, or several"):
        small(windows=windows)


# ---- toy sentiment ---------------------------------------------------------------------------------------------


def test_the_main_clause_decides() -> None:
    """By a parser of its own."""
    good = {"good", "funny", "moving", "clever", "fresh", "gripping"}
    seen = set()
    for line, label in drawn(np.random.RandomState(5), 500):
        clauses = line.split(" , ")
        (main,) = (clause for clause in clauses if not clause.startswith("though "))
        words = main.split()
        assert label == int((words[-1] in good) != ("not" in words)), line
        seen.add((len(clauses), clauses[0].startswith("though"), label))
    assert len(seen) == 6, "alone, before and behind; for and against"


def test_naive_bayes_is_the_floor_and_the_net_is_above_it() -> None:
    words = ["model=textcnn", "model.embedding=16", "model.filters=32", "data.batch_size=50", "trainer.max_epochs=3"]
    result = trained(*words, "optimizer.lr=3e-3", "probe=[naive_bayes]")
    one, two = (result.metrics[f"probe/naive_bayes/{n}"] for n in (1, 2))
    assert 0.55 < one < two < 0.75
    assert result.metrics["test/acc"] > 0.9


def test_shuffled_words_are_the_same_words() -> None:
    made = [ToySentiment({}, context=20, begin=False, shuffled=shuffled) for shuffled in (False, True)]
    for data in made:
        data.setup()
    (ids, labels), (other, same) = (data.splits["test"] for data in made)
    assert torch.equal(labels, same)
    assert torch.equal(ids.sort(1).values, other.sort(1).values)
    assert (ids != other).any(1).float().mean() > 0.9
    assert naive_bayes(None, made[0], words=1) == naive_bayes(None, made[1], words=1)


def test_recurrent_nets_get_lengths() -> None:
    words = ["model=gru", "task=sequence_classification", "data=toy_sentiment", "model.embedding=8", "model.width=8"]
    small = [*words, "data.batch_size=50", "data.train_items=200"]
    assert compose(small).data.lengths is True
    assert compose(["model=textcnn"]).data.lengths is False
    with_, without = trained(*small), trained(*small, "data.lengths=false")
    assert with_.metrics["test/loss"] == pytest.approx(without.metrics["test/loss"], rel=1e-5)


def test_a_net_that_takes_no_lengths_says_so(cli: Callable[..., Said]) -> None:
    said = one_line(cli("train", "model=textcnn", "data.lengths=true", "trainer=smoke", "logger=none"))
    assert said.endswith("data.lengths=True: model=textcnn takes no lengths; leave it out")


def test_no_sentences(cli: Callable[..., Said]) -> None:
    said = cli("train", "model=mlp", "probe=[naive_bayes]", "trainer=smoke", "logger=none", "pictures=false")
    assert "naive_bayes reads sentences, which these data are not; data=movie_reviews or toy_sentiment" in said.err
