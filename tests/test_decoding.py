"""Search against search without shortcuts, sampling against what it should draw from."""

import itertools
import math
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dl_zoo.decoding import beam, continued, evaluating, greedy, penalty, select
from dl_zoo.errors import UserError
from dl_zoo.models.char_lstm import CharLSTM
from dl_zoo.models.gpt import GPT
from dl_zoo.models.seq2seq import Seq2Seq
from dl_zoo.models.seq2seq_attention import Seq2SeqAttention
from dl_zoo.models.transformer import Transformer

BOS, EOS, V, LIMIT = 1, 2, 5, 4
ENDS: dict[str, int] = {"bos": BOS, "eos": EOS}
WORDS = [word for word in range(V) if word != EOS]
SOURCE = torch.tensor([[3, 4, 3, EOS], [4, 4, EOS, 0], [3, EOS, 0, 0]])
LENGTHS = torch.tensor([4, 3, 2])
NETS = {
    "seq2seq": lambda context: Seq2Seq(V, embedding=6, width=8, depth=2),
    "seq2seq_attention": lambda context: Seq2SeqAttention(V, embedding=6, width=8, maxout=4),
    "transformer": lambda context: Transformer(V, context=context, width=8, heads=2, hidden=8, depth=2, tied=False),
}
every_net = pytest.mark.parametrize("name", list(NETS))


def make(name: str, seed: int = 0, context: int = 0, spread: float = 1.0) -> Any:
    torch.manual_seed(seed)
    net = NETS[name](context)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=spread)  # opinions strong enough that one choice changes the next
    return net.double()


Words = tuple[int, ...]


def extended(net: Any, row: int, beginnings: list[Words]) -> dict[Words, float]:
    """log p of beginnings of one length with each next symbol, by a teacher-forced pass without state or padding."""
    target = torch.tensor([[BOS, *words] for words in beginnings])
    source = SOURCE[row : row + 1, : LENGTHS[row]].expand(len(target), -1)
    with evaluating(net), torch.no_grad():
        log_p = net(source, target)[0].log_softmax(2)  # (N, T, V)
    before = log_p[:, :-1].gather(2, target[:, 1:, None]).sum((1, 2))
    each = (before[:, None] + log_p[:, -1]).tolist()
    return {(*words, w): each[n][w] for n, words in enumerate(beginnings) for w in range(V)}


@cache
def exhaustive(seed: int, row: int) -> dict[Words, float]:
    """log p of all translations that end within the limit, with their ends."""
    net, found = make("seq2seq", seed), dict[Words, float]()
    for n in range(LIMIT):
        found |= extended(net, row, list(itertools.product(WORDS, repeat=n)))
    return {words: score for words, score in found.items() if words[-1] == EOS}


def best(seed: int, row: int, alpha: float) -> list[int]:
    scores = exhaustive(seed, row)
    return [*max(scores, key=lambda words: scores[words] / penalty(len(words), alpha))][:-1]


def slow_beam(net: Any, row: int, width: int, alpha: float, limit: int) -> list[int]:
    """The definition: to the limit, one sentence, every score from the start."""
    live: list[Words] = [()]
    finished: dict[Words, float] = {}
    for step in range(1, limit + 1):
        scores = extended(net, row, live)
        order = sorted(scores, key=lambda words: -scores[words])
        finished |= {words[:-1]: scores[words] / penalty(step, alpha) for words in order[:width] if words[-1] == EOS}
        live = [words for words in order if words[-1] != EOS][:width]
    return [*(max(finished, key=lambda words: finished[words]) if finished else live[0])]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all(seed: int, alpha: float) -> None:
    found = beam(make("seq2seq", seed), SOURCE, LENGTHS, **ENDS, width=350, alpha=alpha, limit=LIMIT)
    assert found == [best(seed, row, alpha) for row in range(3)]


def test_those_cases_tell_things_apart() -> None:
    """The exhaustive search is not always greedy's answer, nor independent of alpha."""
    found = {alpha: [best(seed, row, alpha) for seed in range(3) for row in range(3)] for alpha in (0.0, 2.0)}
    first = [ids for seed in range(3) for ids in greedy(make("seq2seq", seed), SOURCE, LENGTHS, **ENDS, limit=LIMIT)]
    assert found[0.0] != found[2.0]
    assert found[0.0] != first


@every_net
@pytest.mark.parametrize(("width", "alpha"), [(1, 0.6), (2, 0.0), (3, 1.0)])
def test_a_narrow_beam_is_what_it_is_defined_as(name: str, width: int, alpha: float) -> None:
    """Batched, with state, padding and an early stop, against a search that has none of these."""
    net = make(name, seed=width, spread=0.7)
    found = beam(net, SOURCE, LENGTHS, **ENDS, width=width, alpha=alpha, limit=6)
    assert found == [slow_beam(net, row, width, alpha, 6) for row in range(3)]


@every_net
def test_width_one_without_penalty_is_greedy(name: str) -> None:
    lengths = set()
    for seed in range(4):
        net = make(name, seed, spread=0.7).float()
        first = greedy(net, SOURCE, LENGTHS, **ENDS, limit=12)
        assert beam(net, SOURCE, LENGTHS, **ENDS, width=1, alpha=0.0, limit=12) == first
        lengths |= {len(ids) for ids in first}
    assert len(lengths) > 1  # some end, some do not


@every_net
def test_greedy_takes_the_likeliest(name: str) -> None:
    net = make(name, seed=1, spread=0.5)
    for row, ids in enumerate(greedy(net, SOURCE, LENGTHS, **ENDS, limit=8)):
        source = SOURCE[row : row + 1, : LENGTHS[row]]
        logits, _ = net.eval()(source, torch.tensor([[BOS, *ids]]))
        expected = logits[0].argmax(1).tolist()
        assert expected[: len(ids)] == ids
        assert len(ids) == 8 or expected[-1] == EOS


class Script(nn.Module):
    """Writes what its table (V, V) says, log p of each word after another; source and state are there to be counted."""

    def __init__(self, table: Tensor, context: int | None = None):
        super().__init__()
        self.table, self.context, self.calls, self.rows, self.modes = table, context, 0, 0, set[bool]()

    def encode(self, source: Tensor, lengths: Tensor | None) -> Tensor:
        assert lengths is None or lengths.all()
        self.rows = len(source)
        return source[:, :1]

    def start(self, memory: Tensor) -> Any:
        return (None, (memory,))

    def decode(self, target: Tensor, state: Any) -> Any:
        self.calls += 1
        self.modes.add(self.training)
        assert len(state[1][0]) == len(target)
        return self.table[target], state


def certain(*following: int) -> Tensor:
    """Almost certain words: after word i comes following[i]."""
    table = torch.full((V, V), -20.0)
    table[torch.arange(V), torch.tensor(following)] = 0.0
    return table


def test_it_stops_when_nothing_can_overtake() -> None:
    net = Script(certain(3, 3, 2, 4, 2))  # <bos> 3 4 <eos>
    for search in (greedy, beam):
        net.calls = 0
        assert search(net, SOURCE, LENGTHS, **ENDS, limit=1000) == [[3, 4]] * 3
        assert net.calls == 3


def test_without_an_end_it_stops_at_the_limit_or_the_context() -> None:
    for context, calls in ((None, 7), (0, 7), (5, 5), (9, 7)):
        net = Script(certain(3, 3, 3, 4, 3), context)
        for search in (greedy, partial(beam, width=1)):  # a wider one has an end somewhere, however unlikely
            net.calls = 0
            assert search(net, SOURCE, LENGTHS, **ENDS, limit=7) == [[3, 4, 3, 4, 3, 4, 3][:calls]] * 3
            assert net.calls == calls


@pytest.mark.parametrize("limit", [3, 50])
def test_a_context_that_is_full_is_no_error(limit: int) -> None:
    net = make("transformer", context=4)
    with torch.no_grad():
        net.head.weight[EOS] = 0  # rarely the likeliest
    assert max(map(len, greedy(net, SOURCE, LENGTHS, **ENDS, limit=limit))) <= min(limit, 4)
    assert max(map(len, beam(net, SOURCE, LENGTHS, **ENDS, limit=limit))) <= min(limit, 4)


@pytest.mark.parametrize("search", [greedy, beam])
def test_empty_sources_stay_empty(search: Any) -> None:
    net = Script(certain(3, 3, 2, 4, 2))
    assert search(net, SOURCE, torch.tensor([4, 0, 2]), **ENDS, limit=9) == [[3, 4], [], [3, 4]]
    assert net.rows == 2
    assert search(net, SOURCE, torch.zeros(3, dtype=torch.int64), **ENDS, limit=9) == [[], [], []]
    assert search(net, SOURCE[:, :0], None, **ENDS, limit=9) == [[], [], []]
    assert search(net, SOURCE[:0], LENGTHS[:0], **ENDS, limit=9) == []


def test_the_penalty_prefers_longer_ones() -> None:
    """<bos> ends at once with p = 0.5, or goes on by words that are certain to an end of p = 0.4 in all."""
    table = certain(2, 2, 2, 4, 0)
    table[BOS] = torch.tensor([0.0, 0.0, 0.5, 0.4, 0.1]).clamp(min=1e-9).log()
    net = Script(table)
    one = {**ENDS, "limit": 9, "width": 3}
    assert beam(net, SOURCE[:1], None, **one, alpha=0.0) == [[]]
    assert beam(net, SOURCE[:1], None, **one, alpha=1.0) == [[3, 4, 0]]  # -0.916 / 1.5 against -0.693


@pytest.mark.parametrize("training", [True, False])
def test_decoding_is_done_in_evaluation_mode(training: bool) -> None:
    net = Script(certain(3, 3, 2, 4, 2)).train(training)
    beam(net, SOURCE, LENGTHS, **ENDS, limit=9)
    greedy(net, SOURCE, LENGTHS, **ENDS, limit=9)
    assert net.modes == {False}
    assert net.training is training
    language = CharLSTM(V, width=8, dropout=0.9).train(training)
    texts = [[ids.tolist() for ids in continued(language, SOURCE, 5, temperature=0)] for _ in range(2)]
    assert texts[0] == texts[1]
    assert language.training is training


@pytest.mark.parametrize(("numbers", "words"), [({"width": 0}, "beam width 0"), ({"alpha": -1}, "length penalty -1")])
def test_a_beam_that_cannot_be(numbers: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        beam(make("seq2seq"), SOURCE, LENGTHS, **ENDS, limit=3, **numbers)


def test_rows_of_a_state() -> None:
    state = (torch.arange(3), (None, (torch.arange(6).view(3, 2),)))
    first, (nothing, (second,)) = select(state, torch.tensor([2, 2, 0]))
    assert first.tolist() == [2, 2, 0]
    assert nothing is None
    assert second.tolist() == [[4, 5], [4, 5], [0, 1]]


# ---- language models ------------------------------------------------------------------------------------------------


def language_models() -> list[Any]:
    torch.manual_seed(0)
    return [CharLSTM(V, width=8), GPT(V, context=12, width=8, heads=2, depth=2, dropout=0.0)]


def written(*arguments: Any, **settings: Any) -> list[list[int]]:
    """Row by row."""
    return torch.stack(list(continued(*arguments, **settings)), 1).tolist()


def test_a_symbol_at_a_time() -> None:
    for net in language_models():
        prompt = torch.tensor([[3, 4, 0], [1, 1, 2]])
        going = continued(net, prompt, 4, generator=torch.Generator().manual_seed(0))
        first = next(going)
        assert first.shape == (2,)
        assert first.dtype == torch.int64
        assert len(list(going)) == 3
        assert list(continued(net, prompt, 0)) == []


def test_the_state_changes_no_choice() -> None:
    for net in language_models():
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.7)
        prompt = torch.tensor([[3, 4, 0], [1, 1, 2]])
        expected = prompt
        for _ in range(9):
            expected = torch.cat([expected, net.eval()(expected)[0][:, -1:].argmax(2)], 1)
        assert written(net, prompt, 9, temperature=0) == expected[:, 3:].tolist()
        assert len(set(expected.flatten().tolist())) > 2


class Fixed(nn.Module):
    """The same logits always; remembers what it was given to read, and how much its state held."""

    def __init__(self, *logits: float, context: int | None = None):
        super().__init__()
        self.logits, self.context, self.given = torch.tensor(logits), context, list[tuple[int, int]]()

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        held = 0 if state is None else state.shape[1]
        self.given.append((held, tokens.shape[1]))
        assert not self.context or held + tokens.shape[1] <= self.context
        return self.logits.expand(*tokens.shape, -1), tokens if state is None else torch.cat([state, tokens], 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    logits = torch.tensor([1.0, -1.0, 0.5, 2.0])
    prompt = torch.zeros(20_000, 1, dtype=torch.int64)
    (ids,) = continued(Fixed(*logits), prompt, 1, temperature=temperature, generator=torch.Generator().manual_seed(0))
    shares = ids.bincount(minlength=4) / len(ids)
    torch.testing.assert_close(shares, (logits / temperature).softmax(0), atol=0.015, rtol=0)


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"top_k": 1}, {3}),
        ({"top_k": 2}, {0, 3}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_p": 0.01}, {3}),
        ({"top_p": 0.61}, {0, 3}),  # the likeliest has 0.60
        ({"top_p": 1.0}, {0, 1, 2, 3}),
        ({"top_k": 3, "top_p": 0.85}, {0, 3}),  # 0.64 and 0.26 of what top_k left
        ({"temperature": 0}, {3}),
    ],
)
def test_only_the_likeliest_are_drawn(settings: dict[str, Any], allowed: set[int]) -> None:
    probabilities = torch.tensor([0.24, 0.06, 0.1, 0.6])
    prompt = torch.zeros(2000, 1, dtype=torch.int64)
    (ids,) = continued(Fixed(*probabilities.log()), prompt, 1, generator=torch.Generator().manual_seed(0), **settings)
    assert set(ids.tolist()) == allowed


def test_a_generator_makes_it_repeatable() -> None:
    net, prompt = Fixed(0.0, 0.0, 0.0), torch.zeros(2, 1, dtype=torch.int64)
    texts = [written(net, prompt, 20, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    before = torch.get_rng_state()
    written(net, prompt, 5, generator=torch.Generator())
    written(net, prompt, 5, temperature=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_full_context_keeps_its_newest_half() -> None:
    net = Fixed(0.0, 1.0, context=6)
    written(net, torch.zeros(1, 4, dtype=torch.int64), 9, temperature=0)
    assert net.given == [(0, 4), (4, 1), (5, 1), (0, 3), (3, 1), (4, 1), (5, 1), (0, 3), (3, 1)]
    net.given = []
    written(net, torch.zeros(1, 40, dtype=torch.int64), 2, temperature=0)
    assert net.given == [(0, 6), (0, 3)]
    net = Fixed(0.0, 1.0, context=1)
    written(net, torch.zeros(1, 3, dtype=torch.int64), 3, temperature=0)
    assert net.given == [(0, 1)] * 3


def test_what_is_read_anew_is_the_newest_half() -> None:
    gpt = GPT(V, context=6, width=8, heads=2, depth=1, dropout=0.0)
    prompt = torch.tensor([[3, 4, 0, 1, 2, 3]])
    ids = written(gpt, prompt, 3, temperature=0)[0]
    text = [*prompt[0].tolist(), *ids]
    expected = gpt.eval()(torch.tensor([text[4:7]]))[0][0, -1].argmax()  # half of six
    assert ids[1] == expected
    assert len(written(gpt, prompt, 40)[0]) == 40


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": -1}, "temperature -1: must be at least 0"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"top_k": 0}, "top_k 0: must be at least 1"),
        ({"top_p": 0.0}, "top_p 0.0: must be above 0 and at most 1"),
    ],
)
def test_numbers_out_of_range_are_told_at_once(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        continued(Fixed(0.0), SOURCE, 1, **settings)


def test_an_empty_prompt() -> None:
    with pytest.raises(UserError, match="the prompt is empty"):
        continued(Fixed(0.0), SOURCE[:, :0], 1)
