"""Which options go together: told for all pairs without composing, and told the same by composing."""

import random
import re
from pathlib import Path

import pytest
from conftest import SMALL

from dl_zoo import refusals
from dl_zoo.compose import inspect
from dl_zoo.options import card, names, read
from dl_zoo.preflight import check
from dl_zoo.refusals import Pair

TABLE = Path(__file__).parents[1] / "docs" / "refusals.md"
ALL = list(refusals.pairs())
REDUCED = ["data.batch_size=4", "trainer=cpu", "logger=none"]


def stand_in(pair: Pair) -> str:
    """A net where none is named: one for the data, and beside pictures and points one that takes every regularizer."""
    data = next((choice.partition("=")[2] for choice in pair if choice.startswith("data=")), "digits")
    if "vocab_size" not in read("data", data)["dims"]:
        return "model=mlp"
    return "model=transformer_small" if "pairs" in data or "multi30k" in data else "model=gpt_char"


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
    if any(refusals.refusal((stand_in(pair), choice)) for choice in pair if not pair[0].startswith("model=")):
        pytest.skip("the net that stands in does not take it")
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
        if any(refusals.refusal((stand_in(pair), choice)) for choice in pair if "model=" not in str(pair)):
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
    parts = {"model": {"dropout": 0.0}}
    fine = {"dropout": {"set": {"model.dropout": 0.5}}}
    assert not refusals.of_regularizers(fine, parts, {"model": "net"})
    twice = {**fine, "other": {"set": {"model.dropout": 0.1}}}
    assert refusals.of_regularizers(twice, parts, {"model": "net"}) == [
        "regularizer: dropout and other both set model.dropout; pick one"
    ]
    assert SMALL
