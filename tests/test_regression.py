"""Numbers to predict: the adding problem, and what is measured of it."""

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import one_line
from torch import nn

from dl_zoo.data.adding import Adding
from dl_zoo.errors import UserError
from dl_zoo.tasks.regression import Regression


def made(**settings: Any) -> Adding:
    data = Adding({}, **{"train_items": 4000, "eval_items": 300, **settings})
    data.setup()
    return data


@pytest.mark.parametrize("length", [2, 7, 50])
def test_the_sum_of_the_marked(length: int) -> None:
    data = made(length=length)
    assert data.dims == {"input_size": 2, "context": length, "num_targets": 1}
    inputs, targets = data.splits["train"]
    assert (inputs.dtype, inputs.shape, targets.shape) == (torch.float32, (4000, length, 2), (4000, 1))
    numbers, marks = inputs.unbind(2)
    assert ((marks == 0) | (marks == 1)).all()
    assert (marks[:, : length // 2].sum(1) == 1).all()
    assert (marks[:, length // 2 :].sum(1) == 1).all()
    assert marks.any(0).all(), "every place is marked some time"
    assert torch.allclose((numbers * marks).sum(1, keepdim=True), targets, atol=1e-6)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert targets.var().item() == pytest.approx(1 / 6, rel=0.05)


def test_a_set_is_the_same_for_every_seed_and_its_splits_differ() -> None:
    one, other = made(seed=1), made(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.splits["train"], other.splits["train"], strict=True))
    assert not torch.equal(one.splits["val"][0], one.splits["test"][0])
    pretended = Adding({}, train_items=4000, eval_items=300)
    pretended.pretend(12)
    assert pretended.dims == one.dims
    assert pretended.splits["val"][0].shape == (12, 50, 2)


def test_too_short() -> None:
    with pytest.raises(UserError, match=r"data\.length=1: must be a whole number of at least 2, for two marks"):
        Adding({}, length=1)


def test_measures_are_those_of_all_items_at_once() -> None:
    """In batches of unequal size, against NumPy."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(10, 1))
    task = Regression(net=net, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data = made(length=5, batch_size=128)
    trainer.test(task, data, verbose=False)
    found = {name: value.item() for name, value in trainer.callback_metrics.items()}
    inputs, targets = data.splits["test"]
    y, answers = targets.numpy().astype(np.float64), net(inputs).detach().numpy().astype(np.float64)
    expected = {"loss": np.mean((answers - y) ** 2), "mae": np.mean(np.abs(answers - y)), "naive": np.var(y)}
    expected["r2"] = 1 - expected["loss"] / expected["naive"]
    assert found == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-4)


def test_a_net_with_too_many_answers_is_told(cli: Any) -> None:
    said = one_line(cli("check", "model=rnn", "model.num_classes=3", "data.length=9", "trainer=cpu", "logger=none"))
    assert said.endswith("answers have the shape (100, 3), not (100, 1) of the targets; leave out model.num_classes")


def test_a_recurrent_net_trains(cli: Any) -> None:
    said = cli("train", "model=gru", "model.width=8", "data.length=4", "data.train_items=400", "data.eval_items=50")
    assert said.code == 0
    assert "test/r2" in said.err
    assert "test/naive" in said.err
