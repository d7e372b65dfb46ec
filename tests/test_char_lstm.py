"""CharLSTM: the same as a loop over cells, and a state that goes on."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.char_lstm import CharLSTM

V, W = 7, 6


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(**others: Any) -> CharLSTM:
    return CharLSTM(V, **{"width": W, **others})


def by_hand(net: CharLSTM, tokens: Tensor) -> Tensor:
    """A cell a layer with the net's own weights, symbol by symbol: (B, T) -> (B, T, V)."""
    cells = []
    for layer in range(net.lstm.num_layers):
        cell = nn.LSTMCell(net.lstm.input_size if layer == 0 else W, W)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(cell, name, getattr(net.lstm, f"{name}_l{layer}"))
        cells.append(cell)
    states: list[Any] = [None] * len(cells)
    logits = []
    for symbols in tokens.unbind(1):
        x = torch.eye(V)[symbols] if net.embedding is None else net.embedding.weight[symbols]
        for layer, cell in enumerate(cells):
            states[layer] = cell(x, states[layer])
            x = states[layer][0]
        logits.append(x @ net.head.weight.T + net.head.bias)
    return torch.stack(logits, 1)


@pytest.mark.parametrize("others", [{}, {"depth": 1, "embedding": 4}, {"depth": 3, "embedding": W, "tied": True}])
def test_equals_a_loop_over_cells(others: dict[str, Any]) -> None:
    net, tokens, wanted = make(**others), torch.randint(V, (3, 5)), torch.randint(V, (15,))
    gradients = []
    outputs = net(tokens)[0], by_hand(net, tokens)
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    for output in outputs:
        net.zero_grad()
        F.cross_entropy(output.flatten(0, 1), wanted).backward()
        gradients.append([parameter.grad.clone() for parameter in net.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert ours.any()


def test_the_state_goes_on() -> None:
    net, tokens = make(), torch.randint(V, (3, 8))
    whole, (h, c) = net(tokens)
    first, state = net(tokens[:, :5])
    second, state = net(tokens[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(state, (h, c), atol=1e-6, rtol=1e-5)
    assert h.shape == c.shape == (3, 2, W)
    assert not torch.allclose(second, net(tokens[:, 5:])[0])
    rows = torch.tensor([2, 0])
    other, _ = net(tokens[rows, 5:], tuple(each.index_select(0, rows) for each in net(tokens[:, :5])[1]))
    torch.testing.assert_close(other, second[rows], atol=1e-6, rtol=1e-5)


def test_initial_weights() -> None:
    net = make(width=50, forget_bias=2.0)
    for layer in range(2):
        biases = getattr(net.lstm, f"bias_ih_l{layer}") + getattr(net.lstm, f"bias_hh_l{layer}")
        gates = biases.chunk(4)  # i, f, g, o
        assert torch.equal(gates[1], torch.full((50,), 2.0))
        assert all(gate.abs().max() <= 0.16 for gate in (gates[0], gates[2], gates[3]))
    assert all(p.abs().max() <= 0.08 for name, p in net.named_parameters() if "weight" in name)


def test_tied() -> None:
    tied = make(embedding=W, tied=True)
    apart = make(embedding=W)
    assert tied.head.weight is tied.embedding.weight
    assert tied.heads == ()
    assert apart.heads == ("head",)
    spared = sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in tied.parameters())
    assert spared == V * W
    with pytest.raises(ValueError, match="tied=True needs embedding=6, as wide as the states; it is None"):
        make(tied=True)


def test_runs_on_meta() -> None:
    net = make().to("meta")
    logits, _ = net(torch.ones(2, 4, dtype=torch.int64, device="meta"))
    logits.sum().backward()
    assert logits.shape == (2, 4, V)


def test_learns_a_text_by_heart() -> None:
    tokens = torch.randint(V, (4, 20))
    net = make(width=32)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(120):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
