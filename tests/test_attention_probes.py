"""Probes of attention: on nets whose answer is known, and on such as have none."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError
from dl_zoo.models.attention import Attention
from dl_zoo.models.bert import BERT
from dl_zoo.models.gpt import GPT
from dl_zoo.models.transformer import Transformer
from dl_zoo.probes.equivariance import equivariance
from dl_zoo.probes.leakage import leakage
from dl_zoo.probes.scores import gradient, scores
from dl_zoo.tasks.language_modelling import LanguageModelling

SIZE = {"vocab_size": 11, "width": 8, "heads": 2, "depth": 1}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Tokens:
    """One training batch of 4 sequences of 6 tokens, or of sources and targets."""

    def __init__(self, pairs: bool = False):
        self.dims = {"vocab_size": 11}
        tokens = torch.randint(1, 11, (4, 6))
        self.inputs: Any = (tokens, tokens[:, :5], torch.full((4,), 6)) if pairs else tokens

    def loader(self, split: str) -> Iterator[tuple[Any, Tensor]]:
        yield self.inputs, torch.zeros(4, 6)


class Ahead(nn.Module):
    """A token's output is the mean of itself and of the token `by` places on."""

    def __init__(self, by: int):
        super().__init__()
        self.table, self.by = nn.Embedding(11, 3), by

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        return (x + x.roll(-self.by, 1)) / 2


def holding(net: nn.Module) -> LanguageModelling:
    task = LanguageModelling(net, torch.optim.SGD)
    task.eval()
    return task


def translator(**settings: Any) -> Transformer:
    return Transformer(**SIZE, hidden=16, **settings)


# ---- leakage


@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_a_causal_net_leaks_nothing(positions: str) -> None:
    found = leakage(holding(GPT(**SIZE, context=6, positions=positions)), Tokens())
    assert found["leakage/earlier"] == 0 < found["leakage/later"]


def test_a_decoder_leaks_nothing_and_is_asked_by_its_targets() -> None:
    found = leakage(holding(translator()), Tokens(pairs=True), draws=5)
    assert found["leakage/earlier"] == 0 < found["leakage/later"]


@pytest.mark.parametrize("by", [1, 2])
def test_a_look_ahead_of_one_place_is_found(by: int) -> None:
    assert leakage(holding(Ahead(by)), Tokens())["leakage/earlier"] > 0.1
    assert leakage(holding(Ahead(0)), Tokens())["leakage/earlier"] == 0


def test_an_encoder_leaks_however_its_mask_is_made() -> None:
    assert leakage(holding(BERT(**SIZE, context=6)), Tokens())["leakage/earlier"] > 0


def test_what_cannot_leak_is_refused() -> None:
    with pytest.raises(UserError, match="draws=0"):
        leakage(holding(Ahead(0)), Tokens(), draws=0)
    with pytest.raises(UserError, match="an output a token"):
        leakage(holding(BERT(**SIZE, context=6, num_classes=2)), Tokens())


# ---- equivariance


@pytest.mark.parametrize(("positions", "knows"), [("none", False), ("sinusoid", True), ("rotary", True)])
def test_only_positions_tell_an_encoder_the_order(positions: str, knows: bool) -> None:
    task, data = holding(translator(positions=positions)), Tokens(pairs=True)
    difference = equivariance(task, data)["equivariance/difference"]
    assert difference > 0.01 if knows else difference < 1e-12
    assert next(task.net.parameters()).dtype == torch.float32  # a copy was asked


def test_equivariance_asks_encoders_of_text_too() -> None:
    assert equivariance(holding(BERT(**SIZE, context=6)), Tokens())["equivariance/difference"] > 1e-3
    with pytest.raises(UserError, match="has none"):
        equivariance(holding(GPT(**SIZE, context=6)), Tokens())


# ---- scores


@pytest.mark.parametrize("scaled", [True, False])
def test_scores_have_the_variance_of_theory(scaled: bool) -> None:
    layer = Attention(8, 2, head_width=100, scaled=scaled)
    found = scores(holding(nn.Sequential(layer)), None)
    assert found["scores/variance"] == pytest.approx(1 if scaled else 100, rel=0.05)
    assert found["scores/per_width"] == pytest.approx(found["scores/variance"] / 100)
    assert layer.maps is None


def test_large_scores_make_one_weight_of_all_and_stop_its_gradient() -> None:
    small, large = (scores(holding(Attention(8, 1, 400, scaled=scaled)), None, items=8) for scaled in (True, False))
    assert small["scores/largest"] < 0.2
    assert large["scores/largest"] > 0.85
    assert large["scores/log_gradient"] < small["scores/log_gradient"] - 1


def test_the_gradient_is_that_of_a_softmax() -> None:
    z = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    found = gradient(z.detach().softmax(1))
    torch.manual_seed(1)
    (wanted,) = torch.autograd.grad((z.softmax(1) * torch.randn(5, 7, dtype=torch.float64)).sum(), z)
    torch.testing.assert_close(found, wanted)


def test_scores_need_attention() -> None:
    with pytest.raises(UserError, match="no attention"):
        scores(holding(Ahead(0)), None)
    with pytest.raises(UserError, match="positions=1"):
        scores(holding(Attention(8, 1)), None, positions=1)
