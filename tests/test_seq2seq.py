"""The recurrent translators: the same as loops over torch's cells, and blind to padding."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.seq2seq import Seq2Seq, read, reversed_within
from dl_zoo.models.seq2seq_attention import ChoCell, ChoEncoder, Seq2SeqAttention

V, E, W = 11, 5, 6


def plain(**others: Any) -> Seq2Seq:
    return Seq2Seq(V, embedding=E, width=W, **others)


def attentive(**others: Any) -> Seq2SeqAttention:
    return larger(Seq2SeqAttention(V, embedding=E, width=W, **{"maxout": 4, **others}))


def larger(net: Any) -> Any:
    """The attentive one's weights start so small that its outputs hardly depend on anything."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5)
    return net


def resetting(**others: Any) -> Seq2SeqAttention:
    return attentive(**{"reset": "before", **others})


BOTH = pytest.mark.parametrize("make", [plain, attentive, resetting])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def sentences(*lengths: int) -> tuple[Tensor, Tensor]:
    """Random words, padded with 0, and the lengths."""
    source = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in zip(source, lengths, strict=True):
        row[:length] = torch.randint(1, V, (length,))
    return source, torch.tensor(lengths)


def cells_of(lstm: nn.LSTM) -> list[nn.LSTMCell]:
    """A cell a layer that has the layer's own parameters."""
    cells = []
    for layer in range(lstm.num_layers):
        cell = nn.LSTMCell(lstm.input_size if layer == 0 else lstm.hidden_size, lstm.hidden_size)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(cell, name, getattr(lstm, f"{name}_l{layer}"))
        cells.append(cell)
    return cells


class PapersCell:
    """Cho et al. 2014, eq. 5 to 8: Bahdanau's appendix A.1.1 and A.2.2 with z for their 1 - z. Biases are at the words,
    rows by the gates r, z and the candidate."""

    def __init__(self, cell: Any):
        self.of_word, self.of_state, self.bias = cell.weight_ih, cell.weight_hh, cell.bias

    def __call__(self, x: Tensor, s: Tensor | None) -> Tensor:
        """(1, I), (1, W) -> (1, W)"""
        s = torch.zeros(1, W) if s is None else s
        (wr, wz, w), (ur, uz, u), (br, bz, b) = (part.chunk(3) for part in (self.of_word, self.of_state, self.bias))
        r = 1 / (1 + torch.exp(-(x @ wr.T + s @ ur.T + br)))
        z = 1 / (1 + torch.exp(-(x @ wz.T + s @ uz.T + bz)))
        candidate = torch.tanh(x @ w.T + (r * s) @ u.T + b)
        return z * s + (1 - z) * candidate


def gru_cell_of(gru: nn.GRU, suffix: str) -> nn.GRUCell:
    cell = nn.GRUCell(gru.input_size, gru.hidden_size)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(cell, name, getattr(gru, f"{name}_l0{suffix}"))
    return cell


def stacked(cells: list[nn.LSTMCell], x: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
    states = list(states)
    for layer, cell in enumerate(cells):
        states[layer] = cell(x, states[layer])
        x = states[layer][0]
    return x, states


def seq2seq_by_hand(net: Seq2Seq, words: Tensor, target: Tensor) -> Tensor:
    """One sentence (S,) and (T,), word by word -> (T, V)."""
    encoder, decoder = cells_of(net.encoder), cells_of(net.decoder)
    states: list[Any] = [None] * len(encoder)
    for word in words.flip(0) if net.reverse_source else words:
        _, states = stacked(encoder, net.source_embedding.weight[word][None], states)
    logits = []
    for word in target:
        h, states = stacked(decoder, net.target_embedding.weight[word][None], states)
        logits.append(h @ net.head.weight.T + net.head.bias)
    return torch.cat(logits)


def attention_by_hand(net: Seq2SeqAttention, words: Tensor, target: Tensor) -> Tensor:
    """Appendix A.2 with the net's kind of GRU, a word and a position at a time."""
    forwards: Any
    if isinstance(net.encoder, ChoEncoder):
        forwards, backwards, decoder = map(PapersCell, (net.encoder.forwards, net.encoder.backwards, net.decoder))
    else:
        forwards, backwards = gru_cell_of(net.encoder, ""), gru_cell_of(net.encoder, "_reverse")
        decoder = net.decoder
    x = net.source_embedding.weight[words]
    there: list[Any] = [None]
    back: list[Any] = [None]
    for each, opposite in zip(x, x.flip(0), strict=True):
        there.append(forwards(each[None], there[-1]))
        back.append(backwards(opposite[None], back[-1]))
    h = torch.cat([torch.cat(there[1:]), torch.cat(back[:0:-1])], 1)  # (S, 2 W)
    s = torch.tanh(back[-1] @ net.first_state.weight.T + net.first_state.bias)
    a, logits = net.attention, []
    for word in target:
        e = torch.stack([a.score.weight[0] @ torch.tanh(a.query.weight @ s[0] + a.key.weight @ hj) for hj in h])
        c = sum(weight * hj for weight, hj in zip(e.exp() / e.exp().sum(), h, strict=True))
        y, old = net.target_embedding.weight[word], s
        s = decoder(torch.cat([y, c])[None], s)
        known = torch.cat([(s if net.output_state == "new" else old)[0], y, c])
        if net.maxout:
            pairs = net.mixed.weight @ known + net.mixed.bias
            known = torch.maximum(pairs[::2], pairs[1::2])
        logits.append(net.head.weight @ known + net.head.bias)
    return torch.stack(logits)


def loss_and_gradients(net: nn.Module, logits: Tensor, wanted: Tensor) -> list[Tensor]:
    net.zero_grad()
    F.cross_entropy(logits.flatten(0, 1), wanted.flatten()).backward()
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(
    ("make", "by_hand", "others"),
    [
        (plain, seq2seq_by_hand, {"depth": 3}),
        (plain, seq2seq_by_hand, {"depth": 1, "reverse_source": False}),
        (attentive, attention_by_hand, {}),
        (attentive, attention_by_hand, {"output_state": "old"}),
        (attentive, attention_by_hand, {"maxout": 0}),
        (attentive, attention_by_hand, {"reset": "before"}),
    ],
)
def test_equals_a_loop_over_cells(
    make: Callable[..., Any], by_hand: Callable[..., Tensor], others: dict[str, Any]
) -> None:
    """Outputs and gradients, of a padded batch against sentences one by one without padding."""
    net, (source, lengths) = make(**others), sentences(3, 6, 1, 4)
    target, wanted = torch.randint(1, V, (4, 5)), torch.randint(1, V, (4, 5))
    logits, _ = net(source, target, lengths)
    expected = torch.stack([by_hand(net, row[:n], to) for row, n, to in zip(source, lengths, target, strict=True)])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    ours = loss_and_gradients(net, logits, wanted)
    theirs = loss_and_gradients(net, expected, wanted)
    assert len(ours) == len(theirs) == len(list(net.parameters()))
    for mine, hand in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, hand, atol=1e-5, rtol=1e-5)
        assert mine.any()


def test_the_place_of_the_reset_gate() -> None:
    """Where it lets all through, before is after; where it does not, it is not."""
    x, s = torch.randn(2, 3, E), torch.randn(3, W)
    theirs, ours = nn.GRUCell(E, W), larger(ChoCell(E, W))
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh"):
            getattr(theirs, name).copy_(getattr(ours, name))
        theirs.bias_hh.zero_()
        for opened in (True, False):
            ours.bias[:W] = 100.0 if opened else 0.5
            theirs.bias_ih.copy_(ours.bias)
            assert torch.allclose(ours(x[0], s), theirs(x[0], s), atol=1e-6) is opened


@BOTH
def test_one_word_at_a_time_gives_the_same(make: Callable[..., Any]) -> None:
    net, (source, lengths) = make(), sentences(3, 6)
    target = torch.randint(1, V, (2, 5))
    whole, last = net(source, target, lengths)
    state, steps = net.start(net.encode(source, lengths)), []
    for word in target.split(1, dim=1):
        logits, state = net.decode(word, state)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-6, rtol=1e-5)
    assert all(part.shape[0] == 2 for part in state)  # the batch first


@BOTH
def test_padding_changes_nothing(make: Callable[..., Any]) -> None:
    """More of it, or other words in its place."""
    net, (source, lengths) = make(), sentences(3, 6, 1)
    target = torch.randint(1, V, (3, 4))
    logits, state = net(source, target, lengths)
    alone = torch.cat([net(row[None, :n], to[None])[0] for row, n, to in zip(source, lengths, target, strict=True)])
    torch.testing.assert_close(logits, alone, atol=1e-6, rtol=1e-5)
    garbage = F.pad(source, (0, 3)).masked_fill_(torch.arange(9) >= lengths[:, None], 7)
    again, other = net(garbage, target, lengths)
    assert torch.equal(again, logits)
    assert torch.equal(other[0], state[0])
    assert not torch.allclose(net(source, target)[0], logits)  # without lengths padding is words


@BOTH
def test_words_before_do_not_see_words_behind(make: Callable[..., Any]) -> None:
    net, (source, lengths) = make(), sentences(4, 2)
    one = torch.randint(1, V, (2, 6))
    other = one.clone()
    other[:, 3] = (one[:, 3] + 1) % V
    same = (net(source, one, lengths)[0] == net(source, other, lengths)[0]).all(2).all(0)
    assert same.tolist() == [True] * 3 + [False] * 3


def test_reading_backwards() -> None:
    source, lengths = sentences(3, 5)
    forwards, backwards = plain(reverse_source=False), plain(reverse_source=True)
    backwards.load_state_dict(forwards.state_dict())
    mirrored = reversed_within(source, lengths)
    assert mirrored[0].tolist() == [*source[0, :3].tolist()[::-1], 0, 0]
    assert torch.equal(reversed_within(mirrored, lengths), source)
    assert torch.equal(backwards.encode(source, lengths)[0], forwards.encode(mirrored, lengths)[0])
    assert not torch.equal(backwards.encode(source, lengths)[0], forwards.encode(source, lengths)[0])


def test_packing_is_left_out_where_nothing_is_padded() -> None:
    rnn = nn.LSTM(E, W, 2, batch_first=True)
    x = torch.randn(3, 4, E)
    packed = read(rnn, F.pad(x, (0, 0, 0, 1)), torch.tensor([4, 4, 4]))
    for way in (None, torch.tensor([4, 4, 4])):
        outputs, (h, c) = read(rnn, x, way)
        torch.testing.assert_close(outputs, packed[0][:, :4])
        torch.testing.assert_close((h, c), packed[1])


@BOTH
def test_an_empty_source_is_read_as_padding(make: Callable[..., Any]) -> None:
    net, (source, _) = make(), sentences(3, 1)
    source[1] = 0
    target = torch.randint(1, V, (2, 2))
    empty, one = (net(source, target, torch.tensor([3, n]))[0] for n in (0, 1))
    assert empty.isfinite().all()
    assert torch.equal(empty, one)


@BOTH
def test_runs_on_meta(make: Callable[..., Any]) -> None:
    """Also packed: the lengths lie on the CPU, and no other value is needed there."""
    net = make().to("meta")
    source, target = (torch.ones(2, n, dtype=torch.int64, device="meta") for n in (5, 4))
    logits, _ = net(source, target, torch.tensor([5, 3], device="cpu"))
    logits.sum().backward()
    assert logits.shape == (2, 4, V)
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_alignments() -> None:
    net, (source, lengths) = attentive(dropout=0.5).train(), sentences(3, 6)
    target = torch.randint(1, V, (2, 5))
    (logits, state), maps = net.attention_maps(source, target, lengths)
    assert net.training
    assert net.attention.maps is None
    assert not logits.requires_grad
    expected, _ = net.eval()(source, target, lengths)
    assert torch.equal(logits, expected)
    (alignment,) = maps.values()
    assert alignment.shape == (2, 1, 5, 6)
    torch.testing.assert_close(alignment.sum(3), torch.ones(2, 1, 5))
    assert not alignment[0, :, :, 3:].any()  # nothing goes to padding
    assert alignment[0, 0, :, :3].std() > 0.001  # far from all alike
    contexts = alignment[:, 0] @ state[2]  # what they say is what is used: (B, T, 2 W)
    h = net.decoder(
        torch.cat([net.target_embedding(target[:, 0]), contexts[:, 0]], 1), net.start(net.encode(source, lengths))[0]
    )
    h = net.decoder(torch.cat([net.target_embedding(target[:, 1]), contexts[:, 1]], 1), h)
    torch.testing.assert_close(h, net(source, target[:, :2], lengths)[1][0])


def test_initial_weights_are_the_papers() -> None:
    net = Seq2Seq(1000, embedding=50, width=60)
    for parameter in net.parameters():
        assert 0.07 < parameter.abs().max() <= 0.08
    net = Seq2SeqAttention(1000, embedding=50, width=60, maxout=30)
    assert net.source_embedding.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert net.attention.key.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not net.attention.score.weight.any()
    assert not any(parameter.any() for name, parameter in net.named_parameters() if "bias" in name)
    papers = Seq2SeqAttention(100, embedding=50, width=60, maxout=30, reset="before")
    assert not any(parameter.any() for name, parameter in papers.named_parameters() if "bias" in name)
    own = papers.encoder.forwards.weight_hh, papers.encoder.backwards.weight_hh
    for weight in (*own, net.decoder.weight_hh, net.encoder.weight_hh_l0, net.encoder.weight_hh_l0_reverse):
        for gate in weight.chunk(3):
            torch.testing.assert_close(gate @ gate.T, torch.eye(60), atol=1e-5, rtol=0)
    source, lengths = torch.randint(1, V, (2, 4)), torch.tensor([4, 2])
    _, maps = net.attention_maps(source, source, lengths)
    assert maps["attention"][1, 0, 0].tolist() == [0.5, 0.5, 0.0, 0.0]  # v = 0: all words alike


@BOTH
def test_every_parameter_learns(make: Callable[..., Any]) -> None:
    """With the paper's v = 0 the attention's matrices do from the second step on."""
    net, (source, lengths) = make(), sentences(3, 6)
    if isinstance(net, Seq2SeqAttention):
        net = Seq2SeqAttention(V, embedding=E, width=W, maxout=4)
    target, optimizer = torch.randint(1, V, (2, 5)), torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(net(source, target, lengths)[0].flatten(0, 1), target.flatten()).backward()
        optimizer.step()
    assert all(parameter.grad.any() for parameter in net.parameters())


@pytest.mark.parametrize("make", [Seq2Seq, Seq2SeqAttention])
def test_learns_to_copy_backwards(make: Callable[..., Any]) -> None:
    """Five sentences of several lengths, by heart."""
    net, (source, lengths) = make(V, embedding=16, width=32), sentences(5, 2, 4, 1, 3)
    wanted = reversed_within(source, lengths).masked_fill(source == 0, -100)
    target = F.pad(wanted.clamp(min=0), (1, 0))[:, :-1]  # what came before
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    losses: list[float] = []
    while len(losses) < 150 and not (losses and losses[-1] < 0.1 * losses[0]):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(source, target, lengths)[0].flatten(0, 1), wanted.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0], (losses[0], losses[-1])


@BOTH
def test_dropout_is_for_training(make: Callable[..., Any]) -> None:
    net, (source, lengths) = make(dropout=0.5), sentences(3, 6)
    target = torch.randint(1, V, (2, 5))
    once, twice = (net.train()(source, target, lengths)[0] for _ in range(2))
    assert not torch.equal(once, twice)
    once, twice = (net.eval()(source, target, lengths)[0] for _ in range(2))
    assert torch.equal(once, twice)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="output_state='both' is not one of new, old"):
        attentive(output_state="both")
    with pytest.raises(ValueError, match="reset='never' is not one of after, before"):
        attentive(reset="never")


def test_the_papers_layers() -> None:
    """64 million recurrent weights (Sutskever, section 3.4); the matrices of Bahdanau's appendix A.2."""
    with torch.device("meta"):
        net = Seq2Seq(80_000, embedding=1000, width=1000, depth=4, source_vocab_size=160_000)
        other = Seq2SeqAttention(30_000, embedding=620, width=1000, maxout=500)
    recurrent = sum(p.numel() for rnn in (net.encoder, net.decoder) for p in rnn.parameters() if p.dim() == 2)
    assert recurrent == 64_000_000
    shapes = {name: tuple(parameter.shape) for name, parameter in other.named_parameters()}
    assert shapes["attention.query.weight"] == (1000, 1000)
    assert shapes["attention.key.weight"] == (1000, 2000)
    assert shapes["decoder.weight_ih"] == (3000, 620 + 2000)
    assert shapes["mixed.weight"] == (1000, 1000 + 620 + 2000)
    assert shapes["head.weight"] == (30_000, 500)
