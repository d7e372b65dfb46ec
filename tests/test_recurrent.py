"""RNN, LSTM, GRU: torch's numbers from the written cells and from those by hand, and padding that changes nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dl_zoo.from_scratch import recurrent as by_hand
from dl_zoo.models.gru import GRU
from dl_zoo.models.lstm import LSTM
from dl_zoo.models.recurrent import Recurrent, Unrolled
from dl_zoo.models.rnn import RNN

KERNELS: dict[str, tuple[type[Recurrent], dict[str, Any], type[nn.RNNBase], dict[str, Any]]] = {
    "rnn": (RNN, {}, nn.RNN, {}),
    "rnn, relu": (RNN, {"nonlinearity": "relu"}, nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTM, {}, nn.LSTM, {}),
    "gru": (GRU, {}, nn.GRU, {}),
}
OTHERS: dict[str, tuple[type[Recurrent], dict[str, Any]]] = {
    "lstm of 1997": (LSTM, {"forget_gate": False}),
    "gru of 2014": (GRU, {"reset": "before"}),
}
EVERY = {name: case[:2] for name, case in KERNELS.items()} | OTHERS
every_kernel = pytest.mark.parametrize("name", KERNELS)
every_net = pytest.mark.parametrize("name", EVERY)
CELLS = {
    "rnn": by_hand.RNN(),
    "lstm": by_hand.LSTM(),
    "gru": by_hand.GRU(),
    "lstm of 1997": by_hand.LSTM(forget_gate=False),
    "gru of 2014": by_hand.GRU("before"),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def made(name: str, **others: Any) -> Recurrent:
    kind, how = EVERY[name]
    return kind(**{"input_size": 3, "width": 6, "num_classes": 4} | how | others).double()


def lengths_and_input(items: int = 5, steps: int = 9) -> tuple[Tensor, Tensor]:
    return torch.tensor([9, 1, 4, 9, 7])[:items], torch.randn(items, steps, 3, dtype=torch.float64)


# ---- the same numbers as torch's ---------------------------------------------------------------------------------


@every_kernel
@pytest.mark.parametrize("shape", [{}, {"depth": 2}, {"bidirectional": True}, {"depth": 2, "bidirectional": True}])
@pytest.mark.parametrize("padded", [False, True])
def test_written_cells_are_torchs(name: str, shape: dict[str, Any], padded: bool) -> None:
    """Outputs, last states and gradients, with each other's weights, to 1e-12 in float64."""
    fused, written = made(name, **shape), made(name, written=True, **shape)
    assert isinstance(written.rnn, Unrolled)
    assert isinstance(fused.rnn, KERNELS[name][2])
    written.load_state_dict(fused.state_dict())
    lengths, x = lengths_and_input()
    mask = torch.arange(9) < lengths[:, None] if padded else None
    runs = []
    for net in (fused, written):
        at = x.clone().requires_grad_()
        y, state = net.states(at, lengths if padded else None, mask)
        (y.sin().sum() + sum(each.cos().sum() for each in state)).backward()
        runs.append([y, *state, at.grad, *(dict(net.rnn.named_parameters())[key].grad for key in sorted(keys(net)))])
    for one, other in zip(*runs, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 1e-12


def keys(net: Recurrent) -> list[str]:
    return [name for name, _ in net.rnn.named_parameters()]


@pytest.mark.parametrize("name", CELLS)
def test_by_hand_are_the_same_numbers(name: str) -> None:
    """Forwards and backwards through time, against autograd through torch's kernels or our written cells."""
    net, (_, x) = made(name, read="all", num_classes=0), lengths_and_input()
    x.requires_grad_()
    y, _ = net(x)
    error = torch.randn_like(y)
    y.backward(error)
    p = by_hand.Weights(*(getattr(net.rnn, f"{part}_l0") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))
    with torch.no_grad():
        ours, states, kept = by_hand.unroll(CELLS[name], x, p)
        dx, grads = by_hand.through_time(CELLS[name], error, x, states, kept, p)
    assert (ours - y).abs().max() < 1e-12
    assert (dx - x.grad).abs().max() < 1e-12
    for mine, weight in zip(grads, p, strict=True):
        assert (mine - weight.grad).abs().max() < 1e-12


@pytest.mark.parametrize("name", CELLS)
def test_gradient_norms_are_those_of_the_jacobian(name: str) -> None:
    cell, x = CELLS[name], torch.randn(2, 6, 3, dtype=torch.float64)
    net = made(name)
    p = by_hand.Weights(*(getattr(net.rnn, f"{part}_l0").detach() for part in PARTS))
    norms = by_hand.gradient_norms(cell, x, p)
    _, states, _ = by_hand.unroll(cell, x, p)

    def onwards(*state: Tensor) -> Tensor:
        """h_T from the state before step 2, which is three steps from the end."""
        for t in range(2, 6):
            state, _ = cell.forward(x[:, t] @ p.w.T + p.b, state, p)
        return state[0]

    jacobian = torch.autograd.functional.jacobian(onwards, states[2])  # (B, H, B, H), of each part of the state
    each = [sum(part[b, :, b].square().sum() for part in jacobian).sqrt() for b in range(2)]
    whole = (each[0] + each[1]) / 2
    assert norms.shape == (6,)
    assert norms[0] == pytest.approx(6**0.5)
    assert norms[4] == pytest.approx(whole.item())


PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def test_parameters_are_as_one_to_three_to_four() -> None:
    one, three, four = (sum(p.numel() for p in net().rnn.parameters()) for net in (RNN, GRU, LSTM))
    assert (three, four) == (3 * one, 4 * one)
    assert sum(p.numel() for p in LSTM(forget_gate=False).rnn.parameters()) == 3 * one


# ---- padding -----------------------------------------------------------------------------------------------------


@every_net
@pytest.mark.parametrize("read", ["last", "mean", "max", "all"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(name: str, read: str, bidirectional: bool) -> None:
    """Whatever stands there, and however much of it, no output changes by a bit, and no gradient reaches it."""
    net, (lengths, x) = made(name, read=read, bidirectional=bidirectional, depth=2), lengths_and_input()
    answers = []
    for filling, more in ((0.0, 0), (7.5, 0), (-3.0, 4)):
        padded = torch.cat([x, x.new_zeros(5, more, 3)], 1)
        at = padded.masked_fill((torch.arange(9 + more) >= lengths[:, None])[:, :, None], filling).requires_grad_()
        output, _ = net(at, lengths)
        kept = output[:, :9][torch.arange(9) < lengths[:, None]] if read == "all" else output
        answers.append(kept)
        kept.sum().backward()
        assert at.grad is not None
        assert not at.grad[torch.arange(9 + more) >= lengths[:, None]].any()
    assert torch.equal(answers[0], answers[1])
    assert torch.allclose(answers[0], answers[2], atol=1e-14)
    alone = torch.stack([net(x[i : i + 1, : lengths[i]])[0][0] for i in range(5)]) if read != "all" else None
    assert alone is None or torch.allclose(answers[0], alone, atol=1e-12)


@every_net
def test_ids_know_their_lengths_by_the_padding(name: str) -> None:
    net = made(name, input_size=None, vocab_size=9, embedding=5, pad_id=0)
    ids = torch.tensor([[3, 0, 4, 0, 0], [1, 2, 3, 4, 5]])  # a padding symbol within is no end
    told, _ = net(ids, torch.tensor([3, 5]))
    assert torch.equal(net(ids)[0], told)
    assert torch.allclose(net(torch.cat([ids, torch.zeros(2, 3, dtype=torch.int64)], 1))[0], told, atol=1e-14)
    assert made(name, input_size=None, vocab_size=9)(ids)[0].shape == (2, 4), "one-hot"


@every_kernel
@pytest.mark.parametrize("read", ["last", "mean", "max"])
def test_an_empty_sequence_is_a_step_of_padding(name: str, read: str) -> None:
    ids = torch.tensor([[0, 0, 0], [1, 2, 0]])
    net, written = (made(name, input_size=None, vocab_size=4, pad_id=0, read=read, written=w) for w in (False, True))
    written.load_state_dict(net.state_dict())
    answers, _ = net(ids)
    assert answers.isfinite().all()
    assert torch.allclose(answers, written(ids)[0], atol=1e-12)
    assert torch.allclose(answers[0], net(ids[:1, :1])[0][0], atol=1e-12)


@every_net
@pytest.mark.parametrize("shape", [{}, {"depth": 2}])
def test_a_state_goes_on_where_it_stood(name: str, shape: dict[str, Any]) -> None:
    net, (lengths, x) = made(name, read="all", **shape), lengths_and_input()
    whole, end = net(x)
    first, state = net(x[:, :4])
    second, last = net(x[:, 4:], state=state)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-12)
    for one, other in zip(last, end, strict=True):
        assert one.shape == (5, shape.get("depth", 1), 6)
        assert torch.allclose(one, other, atol=1e-12)
    with pytest.raises(ValueError, match="lengths or state"):
        net(x, lengths, state)


# ---- switches ----------------------------------------------------------------------------------------------------


def test_forget_gates_are_open_at_first() -> None:
    for written in (False, True):
        rnn = LSTM(width=4, depth=2, forget_bias=2.0, written=written).rnn
        biases = {name: p.detach().chunk(4)[1] for name, p in rnn.named_parameters() if name.startswith("bias")}
        assert len(biases) == 4
        for layer in ("l0", "l1"):
            assert torch.equal(biases[f"bias_ih_{layer}"] + biases[f"bias_hh_{layer}"], torch.full((4,), 2.0))
    as_torch = LSTM(width=4, forget_bias=None).rnn.bias_ih_l0
    assert as_torch.abs().max() <= 0.5


@every_net
def test_recurrent_weights(name: str) -> None:
    net = made(name, recurrent_init="orthogonal", depth=2)
    for layer in range(2):
        for gate in getattr(net.rnn, f"weight_hh_l{layer}").split(6):
            assert torch.allclose(gate @ gate.T, torch.eye(6, dtype=torch.float64), atol=1e-6)
    same = made(name, recurrent_init="identity").rnn
    assert all(torch.equal(gate, torch.eye(6, dtype=torch.float64)) for gate in same.weight_hh_l0.split(6))


@every_net
def test_what_depends_on_the_future(name: str) -> None:
    _, x = lengths_and_input()
    other = x.clone()
    other[:, 5:] += 1
    for bidirectional in (False, True):
        net = made(name, read="all", bidirectional=bidirectional)
        changed = (net(x)[0] != net(other)[0]).any(2).any(0)
        assert changed.tolist() == [bidirectional] * 5 + [True] * 4


def test_the_reset_gates_place_matters() -> None:
    after, before = made("gru"), made("gru of 2014")
    before.load_state_dict(after.state_dict())
    _, x = lengths_and_input()
    assert (after(x)[0] - before(x)[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "wrong", "why"),
    [
        (RNN, {"nonlinearity": "sine"}, "nonlinearity='sine' is not one of tanh, relu"),
        (GRU, {"reset": "during"}, "reset='during' is not one of after, before"),
        (LSTM, {"read": "first"}, "read='first' is not one of last, mean, max, all"),
        (LSTM, {"recurrent_init": "zeros"}, "recurrent_init='zeros' is not one of default, orthogonal, identity"),
        (GRU, {"width": 0}, "width=0 must be at least 1"),
        (RNN, {"depth": 0, "written": True}, "depth=0 must be at least 1"),
        (LSTM, {"vocab_size": 9}, "exactly one of input_size and vocab_size must be given"),
        (LSTM, {"input_size": None}, "exactly one of input_size and vocab_size must be given"),
    ],
)
def test_wrong_arguments(kind: type[Recurrent], wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kind(**wrong)
