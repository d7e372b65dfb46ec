"""Which options do not go together, and why: read from the YAMLs alone, so that all pairs can be told in a moment.

Six rules cover the zoo:

- a model that asks for `${dims.x}` needs data that state x, one of what its card names under `either`, and pictures of
  the least size there; clips, data that state `frames`, need one that asks for them, or takes whatever has features;
  and a model whose card says `points` takes neither pictures nor sounds, however many features they have;
- a task needs data whose card states `targets` that it can learn from,
- and a net that answers as it asks: once or at each step, with a state or without, without looking ahead;
- a task whose card says `losses` has no others;
- a regularizer that writes `set: {model.dropout: ...}` needs that argument to be there, and to be written by no other;
- a regularizer's `not_with: {optimizer=lbfgs: reason}` names what it spoils.

`compose` asks the same functions about one run that `table` asks about every pair.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, combinations, product
from typing import Any

from dl_zoo.options import card, names, read

LOSSES = ("bce", "contrastive", "cross_entropy", "huber", "mse", "triplet")  # values of task.loss
GROUPS = ("model", "data", "task.loss", "optimizer", "scheduler", "initializer", "regularizer")
TARGETS = {  # what the cards of data and tasks mean by `targets`
    "class": "a class for each item",
    "symbols": "a symbol for each place",
    "sentences": "a sentence for each sentence",
    "values": "numbers for each item",
    "series": "steps of a series to come",
    "nothing": "items alone",
}
FEW = 3  # datasets that a message names
ANSWERS = {  # of nets whose answers only their own task can score, by that task
    "vae": "a reconstruction and its latents",
    "autoencoding": "a picture",
}
Pair = tuple[str, str]  # two choices, such as ("model=mlp", "data=digits")


def of_dims(model: str, asking: Any, its_card: Mapping[str, Any], data: str, dims: Mapping[str, Any]) -> Iterator[str]:
    """What a model must know of its data that these data do not have, and pictures smaller than its card's `smallest`.

    `asking`: net and task as they are written.
    """
    asked = set(re.findall(r"\$\{dims\.(\w+)\}", str(asking)))
    if "image_size" in its_card.get("dims", {}):
        asked.add("image_size")  # a net of fixed size need not ask
    missing = sorted(name for name in asked if not stated(dims, name))
    either = its_card.get("either", [])
    missing += [] if not either or any(stated(dims, name) for name in either) else [" or ".join(either)]
    if missing:
        yield f"model={model} needs {' and '.join(missing)}, which data={data} does not have{_who_has(missing)}"
    elif "channels" in asked and "frames" not in asked and stated(dims, "frames"):
        yield f"model={model} takes single pictures, and data={data} has clips; model=c3d"
    elif its_card.get("points") and (stated(dims, "channels") or stated(dims, "samples")):
        what = "pictures" if stated(dims, "channels") else "sounds"
        yield f"model={model} takes points, and data={data} has {what}; data=ring"
    size, least = dims.get("image_size"), its_card.get("smallest", 0)
    if isinstance(size, int) and size < least:
        yield f"model={model} takes pictures of {least} pixels or more, and data={data} has {size}; set data.image_size"


def _who_has(missing: Iterable[str]) -> str:
    """The datasets that state all of it, where they are few enough to be a help; those of users are not known here."""
    dims = {name: read("data", name).get("dims", {}) for name in names("data")}
    having = [name for name, its in dims.items() if all(stated(its, each) for each in missing)]
    return f"; data={' or '.join(having)} has" if 0 < len(having) <= FEW else ""


def of_targets(task: str, takes: Mapping[str, Any], data: str, gives: Mapping[str, Any]) -> Iterator[str]:
    """Data that have other targets than the task learns from, by their cards; one that states none is not judged."""
    wanted, given = takes.get("targets", []), gives.get("targets")
    if wanted and given and given not in wanted:
        mend = "; task=regression" if given == "values" else ""  # the one task of all nets that answer with numbers
        yield f"task={task} needs {TARGETS[wanted[0]]}, and data={data} has {TARGETS.get(given, given)}{mend}"
    elif takes.get("in_order") and not gives.get("in_order"):
        yield f"task={task} reads a text in order, and data={data} is in none; data=text_stream"


def of_answers(
    task: str, its_card: Mapping[str, Any], model: str, card: Mapping[str, Any], node: Mapping[str, Any]
) -> Iterator[str]:
    """A net that answers otherwise than the task asks, by the task's card.

    `nets`: those alone whose cards name one of these tasks. `each_step`: whether there is an answer for each step.
    `causal`: an answer may depend on no later step. `states`: whether a net may answer with the state it ends in; what
    has `read` does, unless its card says `states: false`.
    """
    nets, once = its_card.get("nets"), its_card.get("each_step") is False or its_card.get("targets") == ["class"]
    if nets and card.get("task", nets[0]) not in nets:
        yield f"task={task} needs a net made for it, and model={model} is for {card['task']}"
    elif not nets and ANSWERS.get(card.get("task", ""), task) != task:
        yield f"model={model} answers with {ANSWERS[card['task']]}, which task={task} cannot score; task={card['task']}"
    elif its_card.get("causal") and card.get("task") == "tagging":
        yield f"model={model} tags the words of sentences, and task={task} is of texts; task=tagging"
    elif "read" in node and card.get("states", True) and its_card.get("states") is False:
        yield f"model={model} answers with its state, which task={task} does not take; task=sequence_{task}"
    elif node.get("bidirectional") is True and its_card.get("causal"):
        yield f"model.bidirectional=true sees the symbols that task={task} asks for; set it to false"
    elif node.get("read") == "all" and once:
        yield f"model.read=all answers at each step, and task={task} asks once; model.read=last"
    elif node.get("read") in ("last", "mean", "max") and its_card.get("each_step"):
        yield f"model.read={node['read']} answers once, and task={task} asks at each step; model.read=all"
    elif card.get("each_step") is False and its_card.get("each_step"):
        yield f"model={model} answers once for a whole text, and task={task} asks at each step"


def of_loss(its_card: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[str]:
    """A loss that a task does not have, by its card's `losses`; one that states none says so when it is built."""
    losses, loss = its_card.get("losses"), node.get("loss")
    if losses and loss not in losses:
        yield f"task.loss={loss}: must be one of {', '.join(losses)}"


def stated(dims: Mapping[str, Any], name: str) -> bool:
    """Do these dims say it? `pad_id: null` says that nothing is padded; any other null says nothing."""
    return name in dims and (dims[name] is not None or name == "pad_id")


def of_regularizers(
    nodes: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]], choices: Mapping[str, str]
) -> list[str]:
    """What is wrong with these regularizers, one by one and together, beside these parts of a run.

    `parts` maps `model`, `task`, ... to their nodes, `choices` to their names; what is absent is not judged.
    """
    found = [line for name, node in nodes.items() for line in _of_one(name, node, nodes, parts, choices)]
    for (one, first), (other, second) in combinations(nodes.items(), 2):
        shared = [path for path in first.get("set", {}) if path in second.get("set", {})]
        if shared:
            found.append(f"regularizer: {one} and {other} both set {shared[0]}; pick one")
    return found


def _of_one(
    name: str, node: Mapping[str, Any], nodes: Mapping[str, Any], parts: Mapping[str, Any], choices: Mapping[str, str]
) -> Iterator[str]:
    for path in node.get("set", {}):
        head, key = (*path.split("."), "")[:2]
        if head in parts and key not in parts[head]:
            what = f"{head} {choices[head]}" if head in choices else head
            yield f"regularizer={name} sets {path}, but {what} has no argument {key!r}; leave it out"
    for other, reason in node.get("not_with", {}).items():
        where, _, value = other.partition("=")
        head, _, key = where.partition(".")
        here = parts.get(head, {}).get(key) if key else choices.get(head)
        if here == value or (head == "regularizer" and value in nodes):
            yield f"regularizer={name} does not go with {other}: {reason}"


# ---- all pairs --------------------------------------------------------------------------------------------------


def options(group: str) -> list[str]:
    """All options of a group but `none`."""
    return sorted(LOSSES) if group == "task.loss" else [name for name in names(group) if name != "none"]


def pairs() -> Iterator[Pair]:
    """Every pair of options of two groups, and every pair of regularizers."""
    for one, other in combinations(GROUPS, 2):
        for pair in product(options(one), options(other)):
            yield f"{one}={pair[0]}", f"{other}={pair[1]}"
    for first, second in combinations(options("regularizer"), 2):
        yield f"regularizer={first}", f"regularizer={second}"


def refusal(pair: Pair) -> str | None:
    """Why two choices do not go together; None when they do."""
    picked = [tuple(choice.split("=")) for choice in pair]
    choices = {group: name for group, name in picked if group not in ("regularizer", "task.loss")}
    parts: dict[str, Mapping[str, Any]] = {group: read(group, name) for group, name in choices.items()}
    parts["trainer"] = read("trainer", "auto")
    if "model" in choices:
        choices["task"] = card(choices["model"])["task"]
        parts["task"] = read("task", choices["task"])
    for group, name in picked:
        if group == "task.loss":
            task = parts.get("task", read("task", "classification"))
            if "loss" not in task:
                return f"task {choices['task']} has no argument 'loss'"
            parts["task"] = {**task, "loss": name}
            if wrong := next(of_loss(card(choices.get("task", "classification"), "task"), parts["task"]), None):
                return wrong
    if {"model", "data"} <= choices.keys():
        model, data, its_task = choices["model"], choices["data"], choices["task"]
        asking = [parts["model"], parts["task"]]
        missing = of_dims(model, asking, card(model), data, parts["data"]["dims"])
        return next(chain(missing, of_targets(its_task, card(its_task, "task"), data, card(data, "data"))), None)
    regularizers = {name: read("regularizer", name)[name] for group, name in picked if group == "regularizer"}
    return next(iter(of_regularizers(regularizers, parts, choices)), None)


def table() -> dict[Pair, str]:
    """Every pair that is refused, with its reason."""
    return {pair: reason for pair in pairs() if (reason := refusal(pair))}
