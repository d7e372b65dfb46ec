"""TCN: no step sees a later one, nor one beyond the receptive field; counts, weight norm, padding, tasks."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import one_line
from torch import Tensor, nn

from dl_zoo.models.tcn import TCN, Block, Causal
from dl_zoo.plan import layer_table


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def made(**others: Any) -> TCN:
    return TCN(**{"input_size": 3, "width": 6, "num_classes": 4, "depth": 2, "kernel": 3} | others).double().eval()


def seen_by(net: TCN, x: Tensor, step: int) -> list[bool]:
    """Which steps the answer at `step` depends on, by its gradient."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[:, step].sum(), x)
    return gradient.abs().sum((0, 2)).bool().tolist()


@pytest.mark.parametrize(("kernel", "depth"), [(2, 1), (2, 4), (3, 3), (7, 2), (1, 3)])
def test_the_receptive_field(kernel: int, depth: int) -> None:
    net, steps = made(kernel=kernel, depth=depth, read="all"), 60
    field = net.receptive_field
    assert field == 1 + 2 * (kernel - 1) * (2**depth - 1) < steps
    for p in net.parameters():  # all positive: no path is cut by a rectifier, none cancels another
        p.data.abs_()
    x = torch.rand(2, steps, 3, dtype=torch.float64)
    assert seen_by(net, x, 50) == [50 - field < t <= 50 for t in range(steps)]


def test_no_step_sees_a_later_one() -> None:
    net, x = made(read="all"), torch.randn(5, 20, 3, dtype=torch.float64)
    other = x.clone()
    other[:, 12:] += 1
    changed = (net(x) != net(other)).any(2).any(0)
    assert changed.tolist() == [False] * 12 + [True] * 8
    assert torch.equal(made(read="last")(x).isfinite(), torch.ones(5, 4, dtype=torch.bool))
    last = made(read="last")
    last.load_state_dict(net.state_dict())
    assert torch.equal(last(x), net(x)[:, -1])


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 70_369),  # adding, 600 steps
        ({"input_size": 1, "num_classes": 10, "width": 25, "kernel": 7}, 66_910),  # sequential MNIST
        ({"input_size": None, "vocab_size": 10, "num_classes": 10, "width": 10}, 13_230),  # copying, 1,000 steps
    ],
)
def test_counts(arguments: dict[str, Any], count: int) -> None:
    assert sum(p.numel() for p in TCN(**arguments).parameters()) == count


def test_weights_are_a_length_and_a_direction() -> None:
    net = made()
    for layer in (m for m in net.modules() if isinstance(m, Causal)):
        g, v = (p.detach() for p in layer.convolution.parametrizations.weight.parameters())
        assert g.shape == (6, 1, 1)
        assert torch.allclose(layer.convolution.weight, g * v / v.flatten(1).norm(dim=1)[:, None, None])
        v *= 3  # the length of a direction says nothing
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    twin = made()
    twin.load_state_dict(net.state_dict())
    for p in (p for name, p in twin.named_parameters() if name.endswith("original1")):
        p.data /= 3
    assert torch.allclose(net(x), twin(x))


def test_a_block_is_its_equation() -> None:
    block, x = Block(3, 5, kernel=2, dilation=4, dropout=0.0).double(), torch.randn(2, 3, 11, dtype=torch.float64)

    def convolved(layer: Causal, x: Tensor) -> Tensor:
        w, b, before = layer.convolution.weight, layer.convolution.bias, F.pad(x, (4, 0))[:, :, : x.shape[2]]
        assert b is not None
        return torch.relu(torch.einsum("oi,bit->bot", w[:, :, 0], before) + w[:, :, 1] @ x + b[:, None])

    assert isinstance(block.shortcut, nn.Conv1d)
    expected = torch.relu(block.shortcut(x) + convolved(block.second, convolved(block.first, x)))
    assert torch.allclose(block(x), expected)


def test_dropout_leaves_out_whole_channels() -> None:
    block = Block(8, 8, kernel=2, dilation=1, dropout=0.5).train()
    nn.init.constant_(block.second.convolution.bias, 5.0)  # type: ignore[arg-type]  # so that no rectifier is shut
    y = block(torch.zeros(4, 8, 30))
    assert ((y == 0).all(2) | (y > 0).all(2)).all()
    assert 0 < (y == 0).all(2).float().mean() < 1


@pytest.mark.parametrize("read", ["last", "all"])
def test_padding_changes_nothing(read: str) -> None:
    net, lengths = made(read=read), torch.tensor([9, 1, 4, 0])
    x, real = torch.randn(4, 9, 3, dtype=torch.float64), torch.arange(9) < lengths.clamp(min=1)[:, None]
    answers = []
    for filling in (0.0, 7.5):
        output = net(x.masked_fill(~real[:, :, None], filling), lengths)
        answers.append(output[real] if read == "all" else output)
    assert torch.equal(*answers)
    if read == "last":
        for i, steps in enumerate((9, 1, 4, 1)):
            assert torch.allclose(answers[0][i], net(x[i : i + 1, :steps])[0], atol=1e-12)


def test_ids_know_their_lengths_by_the_padding() -> None:
    net = made(input_size=None, vocab_size=9, embedding=5, pad_id=0)
    ids = torch.tensor([[3, 0, 4, 0, 0], [1, 2, 3, 4, 5]])
    assert torch.equal(net(ids), net(ids, torch.tensor([3, 5])))
    one_hot = made(input_size=None, vocab_size=9)
    assert torch.equal(one_hot(ids), one_hot(ids, torch.tensor([5, 5])))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"read": "mean"}, "read='mean' is not one of last, all"),
        ({"vocab_size": 9}, "exactly one of input_size and vocab_size must be given"),
        ({"kernel": 0}, "kernel=0 must be at least 1"),
        ({"depth": 0}, "depth=0 must be at least 1"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TCN(**wrong)


TINY = ["model.width=4", "model.depth=2", "data.train_items=200", "data.eval_items=50", "trainer.max_epochs=1"]
TASKS = {
    "adding": ["data=adding", "data.length=6"],
    "copy_memory": ["data=copy_memory", "task=tagging", "model.read=all", "data.length=6"],
}


@pytest.mark.parametrize("name", TASKS)
def test_it_trains(name: str, cli: Any) -> None:
    said = cli("train", "model=tcn", *TASKS[name], *TINY, "trainer=cpu", "logger=none")
    assert said.code == 0, said.err
    assert f"test/{ {'adding': 'r2', 'copy_memory': 'acc'}[name] }" in said.err


@pytest.mark.parametrize("task", ["classification", "sequence_classification"])
def test_one_class_a_sequence(task: str, cli: Any) -> None:
    """It answers without a state, so either task takes it; what it sees is not downloaded for a check."""
    said = cli("check", "model=tcn", "data=sequential_mnist", "data.pixels=28", f"task={task}", "trainer=cpu", *SHORT)
    assert said.code == 0, said.err


SHORT = ["model.depth=2", "logger=none"]
WRONG = {
    "data=copy_memory task=tagging": "model.read=last answers once, and task=tagging asks at each step; model.read=all",
    "data=adding model.read=all": "model.read=all answers at each step, and task=regression asks once; model.read=last",
    "data=sequential_mnist task=classification model.read=all": "model.read=all answers at each step, and "
    "task=classification asks once; model.read=last",
    "model.kernel=0": "model: kernel=0 must be at least 1",
}


@pytest.mark.parametrize("typed", WRONG)
def test_wrong_words(typed: str, cli: Any) -> None:
    assert one_line(cli("check", "model=tcn", *typed.split(), "trainer=cpu", *SHORT)) == f"dl-zoo: {WRONG[typed]}"


def test_its_layers_are_told_with_all_their_parameters() -> None:
    """Weight normalisation hides a convolution's weight behind modules of its own."""
    net = TCN(depth=2)
    lines = [line.split() for line in layer_table(net, torch.zeros(1, 9, 2))[1:]]
    assert sum(int(line[-1].replace(",", "")) for line in lines) == sum(p.numel() for p in net.parameters())
    assert {line[1] for line in lines} == {"Conv1d", "Dropout1d", "Identity", "Linear"}
