"""`check claim=ID`: everything that is wrong with a claim, in one list, before anything of it trains."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dl_zoo import preflight
from dl_zoo.claims import card, result
from dl_zoo.errors import UserError


def check(id: str, tier: str = "cpu", own: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> preflight.Preflight:
    """The card, each arm and each sabotage built and tried for one step, the rules' metrics, the stored result."""
    found = preflight.Preflight()
    with found.collecting():
        content = card.stated(id, config_dirs)
        found.mistakes += card.mistakes(content, card.experiments(config_dirs))
        if not list(card.wrong_types(content)):
            logged = dict(_arms(content, tier, own, config_dirs, found))
            found.mistakes += _unlogged(content, logged)
        _check_stored(id, tier, found)
    found.mistakes = [line if line.startswith("results/") else f"claim={id}: {line}" for line in found.mistakes]
    return found


def _arms(
    content: Mapping[str, Any], tier: str, own: Sequence[str], config_dirs: Sequence[str], found: preflight.Preflight
) -> Iterator[tuple[str, set[str]]]:
    """Each arm that can be built, with the names of what it will log. Broken ones are only built."""
    arms, sabotage, tiers = (content.get(key) or {} for key in ("arms", "sabotage", "tiers"))
    if tier not in tiers and "cpu" in tiers:
        found.mistakes.append(f"tier={tier}: the card has the tiers {', '.join(tiers)}")
    known = card.experiments(config_dirs)
    for name in arms:
        for broken in (False, True) if name in sabotage else (False,):
            try:
                words = card.Card("", {**content, "sabotage": sabotage}).overrides(name, tier, broken)
            except (KeyError, TypeError, AttributeError):
                continue  # the card's own mistake, which has been told
            if words[0].removeprefix("experiment=") not in known:
                continue
            tried = preflight.check([*words, *own], config_dirs)
            title = f"sabotage of {name}" if broken else f"arm {name}"
            given = _given(content, name, broken)
            found.mistakes += [f"{title}: {line}" for line in tried.mistakes if not line.startswith(given)]
            if tried.metrics:
                found.lines.append(f"{title:<28} {_cost(tried)}")
                yield title, tried.metrics


def _given(content: Mapping[str, Any], arm: str, broken: bool) -> str:
    """How a mistake begins that another arm's run will mend, which is not there yet."""
    try:
        return f"{card.Card('', content).start_key(arm, broken)}=null:"
    except (AttributeError, KeyError, TypeError, StopIteration):
        return "\0"  # the card's own mistake, which has been told


def _cost(tried: preflight.Preflight) -> str:
    return next((" ".join(line.split()[1:]) for line in tried.lines if line.startswith("time ")), "trains nothing")


def _unlogged(content: Mapping[str, Any], logged: Mapping[str, set[str]]) -> Iterator[str]:
    """Rules over a metric that an arm does not log."""
    rules = content.get("rule")
    for number, rule in enumerate(rules if isinstance(rules, list) else [], start=1):
        for arm, metric in card.asked_by(rule):
            for title in (f"arm {arm}", f"sabotage of {arm}"):
                if title in logged and metric not in {*logged[title], "diverged"}:
                    yield f"rule {number}: {title} logs no {metric}; {_like(metric, logged[title])}"


def _like(metric: str, known: set[str]) -> str:
    from dl_zoo.options import nearest

    near = nearest(metric, known)
    head = metric.partition("/")[0]
    return near if near.startswith("did") else "there are " + ", ".join(sorted(n for n in known if n.startswith(head)))


def _check_stored(id: str, tier: str, found: preflight.Preflight) -> None:
    path = result.path_of(id, tier)
    if path.is_file():
        try:
            result.read(path)
        except UserError as error:
            found.mistakes.append(str(error))
