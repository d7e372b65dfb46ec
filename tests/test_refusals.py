"""Which options go together: told for all pairs without composing, and told the same by composing."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import SMALL, Said, net_for, one_line

from dl_zoo import refusals
from dl_zoo.compose import inspect
from dl_zoo.options import CONFIGS, card, names
from dl_zoo.preflight import check
from dl_zoo.refusals import Pair

TABLE = Path(__file__).parents[1] / "docs" / "refusals.md"
ALL = list(refusals.pairs())
REDUCED = ["data.batch_size=4", "trainer=cpu", "logger=none"]


def stand_in(pair: Pair) -> str:
    """A net where none is named: one for the data, and beside pictures and points one that takes every regularizer."""
    data = next((choice.partition("=")[2] for choice in pair if choice.startswith("data=")), "digits")
    return net_for(data)[0]


def words(pair: Pair) -> list[str]:
    """A pair as it is typed; with a net, where none is named."""
    regularizers = [choice.partition("=")[2] for choice in pair if choice.startswith("regularizer=")]
    others = [choice for choice in pair if not choice.startswith("regularizer=")]
    typed = [*others, *([f"regularizer=[{','.join(regularizers)}]"] if regularizers else [])]
    models = [choice.partition("=")[2] for choice in pair if choice.startswith("model=")]
    if models and not any(choice.startswith("data=") for choice in pair):  # beside digits, which are of 8 pixels
        least = card(models[0]).get("smallest", 0)
        typed += [f"data.image_size={least}"] if least > 8 else []
    return typed if models else [stand_in(pair), *typed]


def stood_in_for(pair: Pair) -> list[str]:
    """Why the net that stands in for one not named, or the data of the one that is, do not go with this pair."""
    first, other = pair
    if not first.startswith("model="):
        return [reason for choice in pair if (reason := refusals.refusal((stand_in(pair), choice)))]
    if other.startswith("data="):
        return []
    stated = yaml.safe_load((CONFIGS / "model" / f"{first.partition('=')[2]}.yaml").read_text())
    overridden = {key: name for each in stated["defaults"] if isinstance(each, dict) for key, name in each.items()}
    data = overridden.get("override /data@_global_.data", "digits")
    return [reason] if (reason := refusals.refusal((f"data={data}", other))) else []


def named(pair: Pair) -> str:
    return " ".join(pair)


def test_the_committed_table_is_what_the_yamls_say() -> None:
    """It may not grow silently: a new refusal is a line that somebody reads in a diff."""
    text, column = TABLE.read_text(encoding="utf-8"), r"`(\w[\w.]*)=` (.*?)"
    told = {
        (f"{group}={one}", f"{beside}={other}")
        for group, ones, beside, others in re.findall(rf"^\| {column} \| {column} \|", text, re.MULTILINE)
        for one in re.findall(r"`(\w+)`", ones)
        for other in re.findall(r"`(\w+)`", others)
    }
    assert told == set(refusals.table()), "run: make tables"
    assert f"of {len(ALL):,} pairs" in text


def test_every_option_of_every_group_is_in_some_pair() -> None:
    told = {choice for pair in ALL for choice in pair}
    for group in ("model", "data", "optimizer", "scheduler", "initializer", "regularizer"):
        assert {f"{group}={name}" for name in names(group) if name != "none"} <= told
    assert len(set(ALL)) == len(ALL)


@pytest.mark.parametrize("pair", random.Random(0).sample(ALL, 40), ids=named)
def test_a_sample_of_pairs_composes_or_is_refused_as_told(pair: Pair) -> None:
    compose_as_told(pair)


@pytest.mark.parametrize("pair", random.Random(1).sample([*refusals.table()], 30), ids=named)
def test_a_sample_of_refusals_is_what_composing_says(pair: Pair) -> None:
    compose_as_told(pair)


def compose_as_told(pair: Pair) -> None:
    reason = refusals.refusal(pair)
    if stood_in_for(pair):
        pytest.skip("the net or the data that stand in do not take it")
    assert inspect([*REDUCED, *words(pair)]).mistakes == ([reason] if reason else [])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
def test_every_pair_takes_a_step_or_is_refused() -> None:
    """A net of threshold units has two classes and nothing to learn, so it is measured on data of two classes."""
    wrong: dict[Pair, list[str]] = {}
    for pair in ALL:
        others = {
            "data=digits",
            "data=mnist",
            "data=fashion_mnist",
            *(f"regularizer={r}" for r in names("regularizer")),
        }
        if "model=threshold_unit" in pair and others & {*pair}:
            continue
        typed = [*REDUCED, *words(pair)]
        if stood_in_for(pair):
            continue
        typed += ["model.width=8"] if "model=mlp" in typed else []
        typed += ["data=logic_gates"] if "model=threshold_unit" in pair and "data=" not in str(pair) else []
        typed += ["trainer.max_epochs=0"] if "model=threshold_unit" in pair else []
        found = check(typed)
        expected = [reason] if (reason := refusals.refusal(pair)) else []
        if found.mistakes != expected:
            wrong[pair] = found.mistakes
    assert not wrong


def test_rules_on_small_examples() -> None:
    asking = {"in_features": "${dims.features}", "classes": "${dims.num_classes}"}
    dims = {"features": None, "num_classes": "???"}  # one that the data have not, one known only after reading
    assert list(refusals.of_dims("net", asking, {}, "texts", dims)) == [
        "model=net needs features, which data=texts does not have"
    ]
    assert not list(refusals.of_dims("net", asking, {}, "pictures", {**dims, "features": 4}))
    small = list(refusals.of_dims("net", {}, {"smallest": 33}, "pictures", {"image_size": 32}))
    assert small == ["model=net takes pictures of 33 pixels or more, and data=pictures has 32; set data.image_size"]
    assert not list(refusals.of_dims("net", {}, {"smallest": 33}, "pictures", {"image_size": 33}))
    fixed = {"dims": {"image_size": 32}}
    assert list(refusals.of_dims("net", {}, fixed, "texts", {})) == [
        "model=net needs image_size, which data=texts does not have"
    ]
    takes, gives = {"targets": ["symbols"]}, {"targets": "sentences"}
    assert list(refusals.of_targets("writing", takes, "pairs", gives)) == [
        "task=writing needs a symbol for each place, and data=pairs has a sentence for each sentence"
    ]
    assert not list(refusals.of_targets("writing", {"targets": ["class", "sentences"]}, "pairs", gives))
    assert not list(refusals.of_targets("writing", takes, "a stranger's", {}))
    assert not list(refusals.of_targets("a stranger's", {}, "pairs", gives))
    parts = {"model": {"dropout": 0.0}}
    fine = {"dropout": {"set": {"model.dropout": 0.5}}}
    assert not refusals.of_regularizers(fine, parts, {"model": "net"})
    twice = {**fine, "other": {"set": {"model.dropout": 0.1}}}
    assert refusals.of_regularizers(twice, parts, {"model": "net"}) == [
        "regularizer: dropout and other both set model.dropout; pick one"
    ]
    assert SMALL


@pytest.mark.parametrize("group", ["data", "task"])
def test_every_card_states_known_targets(group: str) -> None:
    for name in names(group):
        targets = card(name, group)["targets"]
        assert {targets} <= {*refusals.TARGETS} if group == "data" else {*targets} <= {*refusals.TARGETS}, name


@pytest.mark.parametrize("model", ["gpt_char", "char_lstm", "bert_small", "transformer_small", "seq2seq"])
@pytest.mark.parametrize("data", ["reverse", "reverse_pairs", "python_docs", "recall_stream"])
def test_nets_of_text_take_a_step_on_data_of_their_kind_alone(model: str, data: str) -> None:
    found = check([*REDUCED, f"model={model}", f"data={data}"])
    reason = refusals.refusal((f"model={model}", f"data={data}"))
    assert found.mistakes == ([reason] if reason else [])
    assert bool(reason) == ((data == "reverse_pairs") != (card(model)["task"] == "translation"))


WRONG = {
    "model=lstm task=tagging data=copy_memory": "model.read=last answers once, and task=tagging asks at each step; "
    "model.read=all",
    "model=gru model.read=all": "model.read=all answers at each step, and task=regression asks once; model.read=last",
    "model=gru data=movie_reviews task=classification": "model=gru answers with its state, which task=classification "
    "does not take; task=sequence_classification",
    "model=gru task=language_modelling data=sort model.read=all model.bidirectional=true": "model.bidirectional=true "
    "sees the symbols that task=language_modelling asks for; set it to false",
    "model=lstm task=translation data=reverse_pairs": "task=translation needs a net made for it, and model=lstm is for "
    "regression",
    "model=gru model.input_size=5": "model.input_size=5: data=adding has 2; leave it out",
    "model=rnn model.depth=0 model.written=true": "model: depth=0 must be at least 1",
    "model=lstm model.width=0": "model: width=0 must be at least 1",
    "data.card.targets=class": "data.card.targets=class: a card states facts, which are not to be set",
    "~data.card": "~data.card: a card states facts, which are not to be set",
}


@pytest.mark.parametrize("typed", WRONG)
def test_nets_that_answer_otherwise_than_a_task_asks(typed: str, cli: Callable[..., Said]) -> None:
    assert one_line(cli("check", *REDUCED, *typed.split())) == f"dl-zoo: {WRONG[typed]}"
