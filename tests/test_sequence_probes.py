"""Probes of nets for sequences, on nets whose answer is known beforehand."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo import create_model
from dl_zoo.data.recall_stream import RecallStream
from dl_zoo.data.sequences import AssociativeRecall, places_back
from dl_zoo.errors import UserError
from dl_zoo.probes.gap_loss import gap_loss
from dl_zoo.probes.product_chain import Chains, longest_chain, product_chain
from dl_zoo.probes.recall_distance import recall_distance

N = 3


# ---- product_chain


class Does(nn.Module):
    """A graph by hand."""

    def __init__(self, graph: Callable[..., Any]):
        super().__init__()
        self.graph = graph

    def forward(self, *inputs: Tensor) -> Any:
        return self.graph(*inputs)


def in_place(x: Tensor) -> Tensor:
    """A product written into a row of a sum that was there before."""
    y = torch.zeros(N, N) + x
    y[0].copy_((x @ x)[0])
    return y @ x


GRAPHS: dict[str, tuple[int, Callable[[Tensor], Any]]] = {
    "none": (0, lambda x: (x + x).relu().sum(1)),
    "one after the other": (3, lambda x: ((x @ x).relu() @ x).tanh() @ x),
    "side by side": (1, lambda x: x @ x + x.T @ x),
    "the longer side counts": (2, lambda x: x @ x @ x + x @ x),
    "through views and pieces": (2, lambda x: (x @ x).T[:2].reshape(-1).split(3)[1] @ x),
    "stacked": (2, lambda x: torch.stack([x, x @ x]) @ x),
    "in place": (2, in_place),
    "several outputs": (2, lambda x: (x, [x @ x @ x])),
    "batches, biases, vectors": (3, lambda x: F.linear(torch.bmm(x[None], x[None]), x, x[0])[0] @ x[0]),
    "attention is two": (2, lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])),
    "a convolution": (1, lambda x: F.conv1d(x[None], torch.ones(2, N, 1))),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_chains_of_graphs_by_hand(name: str) -> None:
    depth, graph = GRAPHS[name]
    assert longest_chain(Does(graph), torch.ones(N, N)) == depth


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_recurrent_layer_waits_at_every_step(kind: Any, layers: int) -> None:
    with torch.no_grad():
        net = kind(N, 4, layers, batch_first=True).double()
        assert longest_chain(net, torch.zeros(2, 9, N, dtype=torch.double)) == 9 * layers


def test_what_cannot_be_seen_is_not_counted() -> None:
    with pytest.raises(UserError, match="attention"), Chains():
        F.scaled_dot_product_attention(*torch.zeros(3, 1, 1, 4, 4))


def asked(net: nn.Module, inputs: Any, **numbers: Any) -> dict[str, float]:
    data = SimpleNamespace(loader=lambda split: [(inputs, inputs)])
    return product_chain(SimpleNamespace(net=net), data, **numbers)


def test_chains_of_nets() -> None:
    tokens = torch.arange(10).view(2, 5)
    small: dict[str, Any] = {"vocab_size": 10, "width": 8}
    attention = create_model("gpt_char", **small, heads=2, depth=3, context=40)
    assert asked(attention, tokens, lengths=[4, 40]) == {
        "product_chain/0004": 3 * 6 + 1,  # queries, scores, mixture, output, two dense layers
        "product_chain/0040": 3 * 6 + 1,
        "product_chain/slope": 0,
    }
    recurrent = create_model("char_lstm", **small, depth=1)
    found = asked(recurrent, tokens, lengths=[4, 12, 40])
    assert list(found.values()) == [5, 13, 41, 1]


@pytest.mark.parametrize(
    ("inputs", "lengths", "said"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), [4, 4], "two at least"),
        (torch.zeros(2, 3, dtype=torch.int64), [0, 4], "1 or more"),
        (torch.zeros(2, 3), [1, 4], "sequences of ids"),
        ((torch.zeros(2, 3),), [1, 4], "sequences of ids"),
    ],
)  # fmt: skip
def test_chains_ask_for_sequences(inputs: Any, lengths: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        asked(nn.Identity(), inputs, lengths=lengths)


# ---- gap_loss

V, MASK = 7, 6


class Knows(nn.Module):
    """Sure of what `answer` gives for (B, T) tokens; of nothing where that is negative."""

    def __init__(self, answer: Callable[[Tensor], Tensor]):
        super().__init__()
        self.answer, self.seen = answer, []  # type: ignore[var-annotated]
        self.unused = nn.Linear(1, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens)
        answer = self.answer(tokens)
        return 50.0 * F.one_hot(answer.clamp(min=0), V) * (answer >= 0)[..., None]


def texts(rows: int = 40, length: int = 16) -> Any:
    """Counting upwards, modulo 6: each token follows from either neighbour. The last place is filling."""
    tokens = (torch.arange(length) + torch.arange(rows)[:, None]) % MASK  # (B, T)
    after = (tokens + 1) % MASK
    after[:, -1] = -100
    return SimpleNamespace(loader=lambda split: [(tokens, after)] * 3)


def judged(
    answer: Callable[[Tensor], Tensor], is_masked: bool, **numbers: Any
) -> tuple[dict[str, float], list[Tensor]]:
    net = Knows(answer)
    task = SimpleNamespace(net=net, **({"mask_id": MASK} if is_masked else {"writes": True}))
    return gap_loss(task, texts(), **numbers), net.seen


def from_the_right(tokens: Tensor) -> Tensor:
    """What stands before the next token; nothing where that is hidden."""
    after = torch.cat([tokens[:, 1:], tokens[:, :1]], 1)
    return torch.where(after == MASK, -1, (after - 1) % MASK)


def test_both_kinds_are_asked_the_same() -> None:
    causal, whole = judged(lambda tokens: (tokens + 1) % MASK, is_masked=False)
    masked, changed = judged(from_the_right, is_masked=True)
    assert causal["gap_loss/items"] == masked["gap_loss/items"]
    assert causal["gap_loss/acc"] == 1
    assert causal["gap_loss/nll"] == pytest.approx(0, abs=1e-6)
    hidden = torch.stack(changed) == MASK  # (batches, B, T)
    assert not hidden[..., 0].any()
    assert not hidden[..., -1].any()
    assert int(hidden.sum()) == masked["gap_loss/items"]
    assert hidden[..., 1:-1].float().mean() == pytest.approx(0.15, abs=0.03)
    assert not any((tokens == MASK).any() for tokens in whole)
    both = (hidden[..., 1:-1] & hidden[..., 2:]).sum() / hidden.sum()  # the right neighbour is hidden too
    assert masked["gap_loss/nll"] == pytest.approx(float(both) * torch.log(torch.tensor(V)).item(), abs=1e-5)


def test_a_causal_net_is_not_asked_for_what_it_sees() -> None:
    copied, _ = judged(lambda tokens: tokens, is_masked=False)
    assert copied["gap_loss/acc"] == 0


def test_of_so_many_batches() -> None:
    one, three = (judged(lambda tokens: tokens, True, batches=count)[0]["gap_loss/items"] for count in (1, 9))
    assert 2 * one < three < 4 * one


@pytest.mark.parametrize(
    ("numbers", "said"),
    [({"share": 0.0}, "between 0 and 1"), ({"batches": 0}, "one batch"), ({"share": 1e-9}, "no token was drawn")],
)
def test_gaps_need_a_question(numbers: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        judged(lambda tokens: tokens, True, **numbers)


def test_gaps_need_a_net_that_fills_them() -> None:
    net = Knows(lambda tokens: tokens)
    with pytest.raises(UserError, match="fill gaps or write on"):
        gap_loss(SimpleNamespace(net=net, writes=False), texts())


# ---- recall_distance


SPELLED = AssociativeRecall({}, pairs=3, length=21, train_items=4, eval_items=400)
JOINED = RecallStream({}, pairs=3, length=20, train_items=4, eval_items=400)


def recall(net: nn.Module, upto: list[int], data: Any = SPELLED) -> dict[str, float]:
    return recall_distance(SimpleNamespace(net=net), data, upto=upto)


class Recalls(nn.Module):
    """The value behind the key that is asked for, if it is at most `reach` tokens back."""

    def __init__(self, reach: int):
        super().__init__()
        self.reach, self.unused = reach, nn.Linear(1, 1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        back = places_back(tokens, tokens)[:, -1]
        value = tokens.gather(1, (tokens.shape[1] - back)[:, None])[:, 0]
        answers = torch.where(back <= self.reach, value, 0)
        return F.one_hot(answers, 37).float()[:, None].expand(-1, tokens.shape[1], -1), None


def test_accuracy_by_distance() -> None:
    assert recall(Recalls(20), [6, 12, 20]) == {
        "recall_distance/0006": 1,
        "recall_distance/0012": 1,
        "recall_distance/0020": 1,
        "recall_distance/slope": 0,
    }
    assert list(recall(Recalls(12), [6, 12, 20]).values()) == [1, 1, 0, -1]
    assert 0.3 < recall(Recalls(8), [6, 10])["recall_distance/0010"] < 0.7  # 8 and 10 tokens back


class LooksBack(nn.Module):
    """Of a stream: the pair of the key asked for, if it is at most `reach` places back. 8 keys, 8 values."""

    def __init__(self, reach: int):
        super().__init__()
        self.reach, self.unused = reach, nn.Linear(1, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        answers = torch.zeros_like(tokens)
        for row, answer in zip(tokens.tolist(), answers, strict=True):
            for place, token in enumerate(row):
                near = [each for each in row[max(0, place - self.reach) : place] if each // 8 == token - 64]
                answer[place] = near[0] if near else 72
        return F.one_hot(answers, 73).float()


def test_accuracy_by_distance_of_many_questions() -> None:
    assert list(recall(LooksBack(19), [5, 12, 19], JOINED).values()) == [1, 1, 1, 0]
    assert list(recall(LooksBack(12), [5, 12, 19], JOINED).values()) == [1, 1, 0, -1]
    assert 0.3 < recall(LooksBack(3), [5, 12], JOINED)["recall_distance/0005"] < 0.9


@pytest.mark.parametrize(
    ("upto", "data", "said"),
    [
        ([6], SPELLED, "two whole numbers"),
        ([6, 6], SPELLED, "rising from 1"),
        ([0, 6], SPELLED, "rising from 1"),
        ([1, 6], SPELLED, "nothing is asked 1 to 1"),
        ([6, 12], SimpleNamespace(), "ask for nothing"),
    ],
)  # fmt: skip
def test_distances_that_cannot_be_asked(upto: list[int], data: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        recall(Recalls(20), upto, data)
