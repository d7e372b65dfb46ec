"""Texts read in order by nets that carry their state on: the windows, the state, and a run that was stopped midway."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import Said, assert_same_run, one_line

from dl_zoo.compose import compose
from dl_zoo.data.text import IGNORED
from dl_zoo.data.text_stream import StreamLoader
from dl_zoo.errors import UserError
from dl_zoo.models.lstm import LSTM
from dl_zoo.models.mlp import MLP
from dl_zoo.run import run
from dl_zoo.tasks.carried_language_modelling import CarriedLanguageModelling

SMALL = [
    *("model=lstm", "model.read=all", "model.width=8", "task=carried_language_modelling", "data=text_stream"),
    *("data.context=16", "data.batch_size=64", "trainer=cpu", "pictures=false", "logger=none", "trainer.max_epochs=2"),
    *("trainer.limit_train_batches=8", "trainer.limit_val_batches=2", "trainer.limit_test_batches=2"),
]


def loader(count: int, **settings: Any) -> StreamLoader:
    return StreamLoader(torch.arange(count), **{"context": 4, "batch_size": 3, "shuffle": False, "seed": 0, **settings})


@pytest.mark.parametrize("count", [14, 40, 41, 61])
def test_in_order_every_token_but_the_first_is_a_target_once(count: int) -> None:
    seen: list[int] = []
    before: torch.Tensor | None = None
    for inputs, targets in loader(count):
        assert inputs.shape == targets.shape == (3, 4)
        counted = targets != IGNORED
        assert torch.equal(inputs[counted] + 1, targets[counted])
        assert (inputs[~counted] == 0).all()
        if before is not None:
            goes_on = counted[:, 0]
            assert torch.equal(inputs[goes_on, 0], before[goes_on] + 1), "row b goes on where row b stopped"
        before = inputs[:, -1]
        seen += targets[counted].tolist()
    assert sorted(seen) == list(range(1, count))


def test_in_training_windows_follow_one_another_and_begin_elsewhere_each_epoch() -> None:
    text = loader(64, shuffle=True)
    firsts = set()
    for _ in range(8):
        batches = list(text)
        assert len(batches) == 5 == len(text)
        rows = torch.cat([inputs for inputs, _ in batches], 1)
        assert (rows.diff(dim=1) == 1).all()
        assert all(torch.equal(inputs + 1, targets) for inputs, targets in batches)
        firsts.add(int(rows[0, 0]))
    assert len(firsts) > 1
    assert max(firsts) <= 3


def test_ranks_share_the_rows() -> None:
    whole = loader(64, batch_size=4)
    parts = [loader(64, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    for (inputs, _), (even, _), (odd, _) in zip(whole, *parts, strict=True):
        assert torch.equal(inputs[::2], even)
        assert torch.equal(inputs[1::2], odd)


def test_a_text_too_short() -> None:
    with pytest.raises(UserError, match=r"train split: 14 tokens, and 3 rows of data\.context=4 need 16"):
        loader(14, shuffle=True)


def test_carried_states_make_windows_one_text() -> None:
    """The loss of windows read one after the other is that of the text read at once; without a state it is not."""
    torch.manual_seed(0)
    ids = torch.randint(9, (3 * 20 + 1,))
    net = LSTM(input_size=None, vocab_size=9, num_classes=9, width=16, read="all")
    for parameter in net.parameters():
        parameter.data.mul_(3)
    task = CarriedLanguageModelling(net=net, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    text = StreamLoader(ids, context=5, batch_size=3, shuffle=False, seed=0)
    found = []
    for _ in range(2):
        trainer.validate(task, text, verbose=False)
        found.append(trainer.callback_metrics["val/loss"].item())
    rows = ids[:-1].view(3, 20)
    whole = torch.nn.functional.cross_entropy(net(rows)[0].flatten(0, 1), ids[1:]).item()
    alone = torch.nn.functional.cross_entropy(net(rows.view(12, 5))[0].flatten(0, 1), ids[1:]).item()
    assert found[0] == found[1] == pytest.approx(whole, abs=1e-5)
    assert abs(alone - whole) > 1e-3


def test_gradients_go_back_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    task = CarriedLanguageModelling(
        net=LSTM(input_size=None, vocab_size=5, num_classes=5, width=4, read="all"),
        optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1),
    )
    monkeypatch.setattr(
        type(task), "trainer", property(lambda self: type("T", (), {"global_step": 0, "log_every_n_steps": 99})())
    )
    batch = torch.tensor([[0, 1, 2]]), torch.tensor([[1, 2, 3]])
    task.training_step(batch, 0)
    assert task.state is None, "the optimizer may ask again: the state waits for the end of the step"
    task.settle()
    assert task.state is not None
    assert not any(each.requires_grad for each in task.state)
    first = task.state
    task.training_step(batch, 1)
    task.settle()
    assert not torch.equal(task.state[0], first[0])
    task.training_step(batch, 0)
    task.settle()
    assert torch.equal(task.state[0], first[0]), "a new pass begins without a state"


def test_stopped_within_a_pass_and_continued_equals_never_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(compose([*SMALL, "logger=tensorboard", "run_dir=whole", "checkpoint_every=0"]))
    taken, original = [], StreamLoader.taken

    def stopping(self: StreamLoader, plan: int, batch: int) -> Any:
        taken.append(batch)
        if len(taken) == 6:  # four batches of the first pass, behind two of the sanity check or validation
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, plan, batch)

    with monkeypatch.context() as patch:
        patch.setattr(StreamLoader, "taken", stopping)
        part = run(compose([*SMALL, "logger=tensorboard", "run_dir=part", "checkpoint_every=0"]))
    assert part.status == "interrupted"
    again = run(compose([*SMALL, "logger=tensorboard", "run_dir=part", "resume=auto", "checkpoint_every=0"]))
    assert again.status == "finished"
    assert_same_run(whole.folder, again.folder)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["model=gpt_char"], "this net carries no state on without end; model=char_lstm, lstm, gru and rnn do"),
        (
            ["model=lstm", "model.read=all", "data=python_docs"],
            "reads a text in order, and data=python_docs is in none; data=text_stream",
        ),
        (["model=lstm", "model.read=all", "model.bidirectional=true"], "set it to false"),
    ],
)
def test_what_cannot_carry(cli: Callable[..., Said], words: list[str], why: str) -> None:
    base = [
        "task=carried_language_modelling",
        *([] if any(w.startswith("data=") for w in words) else ["data=text_stream"]),
    ]
    assert one_line(cli("train", *words, *base, "logger=none")).endswith(why)


def test_a_net_without_state() -> None:
    with pytest.raises(UserError, match="carries no state on"):
        CarriedLanguageModelling(net=MLP(), optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1))


def test_each_rank_gets_its_own_state_back(monkeypatch: pytest.MonkeyPatch) -> None:
    task = CarriedLanguageModelling(
        net=LSTM(input_size=None, vocab_size=5, num_classes=5, width=4, read="all"),
        optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1),
    )
    states = [[torch.full((2, 1, 4), float(rank))] * 2 for rank in range(2)]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(type(task), "global_rank", 1)
    task.on_load_checkpoint({"task": {"states": states}})
    assert task.state is not None
    assert torch.equal(task.state[0], states[1][0])
    task.on_load_checkpoint({"task": {"states": states[:1]}})  # of a run with another number of ranks
    assert task.state is None
