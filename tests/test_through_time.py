"""The norm of dh_T / dh_t: against the cells differentiated by hand, in a run, and drawn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Said, one_line, trained

from dl_zoo.from_scratch import recurrent as by_hand
from dl_zoo.models.gru import GRU
from dl_zoo.models.lstm import LSTM
from dl_zoo.models.recurrent import PARTS
from dl_zoo.models.rnn import RNN
from dl_zoo.through_time import gradient_norms
from dl_zoo.zoo import load_run

NETS: dict[str, Callable[..., Any]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
CELLS = {"rnn": by_hand.RNN(), "lstm": by_hand.LSTM(), "gru": by_hand.GRU()}


@pytest.mark.parametrize("name", NETS)
def test_the_estimate_is_near_the_norm_by_hand(name: str) -> None:
    """Products with eight normal vectors, of 16 sequences, estimate the Frobenius norms to a few per cent."""
    torch.manual_seed(0)
    net, x = NETS[name](input_size=3, width=12).double(), torch.randn(16, 15, 3, dtype=torch.float64)
    weights = by_hand.Weights(*(getattr(net.rnn, f"{part}_l0") for part in PARTS))
    exact = by_hand.gradient_norms(CELLS[name], x, weights)
    found = gradient_norms(net, x)
    assert found.shape == (15,)
    assert torch.allclose(found, exact, rtol=0.1)


def test_symbols_go_too() -> None:
    net = LSTM(input_size=None, vocab_size=5, num_classes=5, width=4, read="all")
    assert gradient_norms(net, torch.randint(5, (3, 6))).shape == (6,)
    assert net.gate_values(torch.randint(5, (3, 6)))["forget"].shape == (3, 6, 4)


def test_an_orthogonal_linear_net_keeps_it_and_stretches_it() -> None:
    net = RNN(input_size=1, width=20, nonlinearity="relu", recurrent_init="identity").double()
    with torch.no_grad():
        net.rnn.weight_hh_l0.mul_(0.5)
        net.rnn.bias_hh_l0.fill_(1.0)  # always open
    norms = gradient_norms(net, torch.zeros(2, 11, 1, dtype=torch.float64))
    assert torch.allclose(norms / norms[0], 0.5 ** torch.arange(11, dtype=torch.float64))


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("written", [False, True])
def test_gates_are_those_of_the_cell(name: str, written: bool) -> None:
    """A gate whose bias is made huge is open throughout; and where z is, nothing is ever written."""
    torch.manual_seed(0)
    net, x = NETS[name](input_size=3, width=6, depth=2, written=written), torch.randn(4, 7, 3)
    gates = net.gate_values(x)
    assert set(gates) == {"lstm": {"input", "forget", "output"}, "gru": {"reset", "update"}}[name]
    assert all(each.shape == (4, 7, 6) for each in gates.values())
    place = {"input": 0, "forget": 1, "output": 3, "reset": 0, "update": 1}
    for gate in gates:
        with torch.no_grad():
            net.rnn.bias_ih_l0.view(-1, 6)[place[gate]] += 50
        assert net.gate_values(x)[gate].min() == 1
    if name == "gru":  # z is 1 throughout: nothing is ever written
        _, (h,) = net(x)
        assert not h[:, 0].any()
    without = LSTM(input_size=3, width=6, forget_gate=False)
    assert set(without.gate_values(x)) == {"input", "output"}
    assert RNN(input_size=3).gate_values(x) == {}


def test_a_run_measures_and_draws_it() -> None:
    small = ["model=lstm", "model.width=8", "data.length=30", "data.train_items=300", "data.eval_items=40"]
    asked = ["probe=[gradient_through_time]", "probe.gradient_through_time.lags=[1,10,20]"]
    result = trained(*small, *asked, "data.batch_size=50", "pictures=true", "logger=tensorboard")
    curve = [result.metrics[f"probe/gradient_through_time/{lag:04d}"] for lag in (1, 10, 20)]
    assert curve[0] > curve[1] > curve[2]
    assert result.metrics["probe/gradient_through_time/a_step"] == pytest.approx((curve[2] - curve[0]) / 19)
    drawn = tags(result.folder)
    assert {"gradients/through_time", "activations/gates"} <= drawn
    plain = trained(*small, "data.batch_size=50")
    one, other = (load_run(each.folder).net.state_dict() for each in (result, plain))
    assert all(torch.equal(one[key], other[key]) for key in one), "a run with pictures is one without"


def tags(folder: Any) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return set(EventAccumulator(str(folder)).Reload().Tags()["images"])


def test_wrong_lags(cli: Callable[..., Said]) -> None:
    words = ["train", "model=rnn", "data.length=10", "probe=[gradient_through_time]", "trainer=smoke", "logger=none"]
    said = one_line(cli(*words, "data.train_items=20", "data.eval_items=10"))
    assert said.endswith("lags=[1, 10, 25, 50, 100]: must be two whole numbers at least, rising, of 1 to 9")


def test_a_net_without_state_is_told(cli: Callable[..., Said]) -> None:
    said = cli("train", "model=mlp", "probe=[gradient_through_time]", "trainer=smoke", "logger=none")
    assert one_line(said).endswith("this one has no state; model=rnn, lstm, gru")
