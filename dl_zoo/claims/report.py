"""What a result says to people: the card on the terminal, and the tables of RESULTS.md and README.md."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dl_zoo.claims import card, result
from dl_zoo.claims.judge import Judgement, Unjudgeable, count, together, values
from dl_zoo.claims.provenance import stale
from dl_zoo.claims.statistics import t_bounds

NOT_RUN = "INCONCLUSIVE (not run)"


def card_lines(content: Mapping[str, Any], picture: Path | None, runs: Path) -> list[str]:
    """The whole card, for the terminal."""
    stated = content["card"]
    judged = result.judged(content)
    again = content.get("rechecked")
    rows = [
        ("claim", stated["claim"]),
        ("source", f"{stated['source']}  (article {stated['article']})"),
        ("reported", str(stated["reported"])),
        ("ours", f"{ours(content)}   [in brackets one-sided 95 % bounds]"),
        *([("departs", judged.departs)] if judged.departs else []),
        *(("rule" if not i else "", f"{f.verdict}: {f.words}") for i, f in enumerate(judged.findings)),
        *_sabotage(judged),
        ("verdict", judged.words),
        ("cost", cost(content)),
        ("again", content["command"]),
        *([("rechecked", "seed {seed} gave the same on {commit}, {date}".format(**again))] if again else []),
        ("look", f"tensorboard --logdir {runs}" + (f"; {picture}" if picture else "")),
    ]
    return [f"{content['id']}  (tier {content['tier']})", "", *(line for row in rows for line in _wrapped(*row)), ""]


def _sabotage(judged: Judgement) -> list[tuple[str, str]]:
    """Each broken arm's verdict, and what refuted it."""
    rows: list[tuple[str, str]] = []
    for name, found in judged.broken.items():
        why = [finding.words for finding in found if finding.verdict == "REFUTED"]
        words = "; ".join(why) or "the check cannot fail, so it proves nothing"
        rows.append(("" if rows else "sabotage", f"{together(found)} with {name} broken: {words}"))
    return rows


def _wrapped(title: str, text: str) -> list[str]:
    lines = textwrap.wrap(" ".join(str(text).split()), 100) or [""]
    return [f"  {title:<10} {lines[0]}", *(f"  {'':<10} {line}" for line in lines[1:])]


def ours(content: Mapping[str, Any]) -> str:
    """What our runs gave: each arm's mean of the rules' metrics, with its one-sided 95 % bounds."""
    arms = {name: arm["runs"] for name, arm in content["arms"].items()}
    texts: dict[str, list[str]] = {}
    counted = {(rule["arm"], rule["metric"]) for rule in content["card"]["rule"] if rule["kind"] == "count"}
    for arm, metric in dict.fromkeys(pair for rule in content["card"]["rule"] for pair in card.asked_by(rule)):
        if (arm, metric) not in counted:
            texts.setdefault(metric, []).append(f"{arm} {_mean(metric, arms, arm)}")
    for rule in content["card"]["rule"]:
        if rule["kind"] == "count":
            texts.setdefault(rule["metric"], []).append(_count(rule, arms))
    return "; ".join(f"{metric}: {', '.join(each)}" for metric, each in texts.items())


def _count(rule: Mapping[str, Any], arms: Mapping[str, Any]) -> str:
    """`two at least 1 in 15 of 20`"""
    return count(rule, arms).words.removeprefix(f"{rule['metric']} of ").partition(" seeds")[0]


def _mean(metric: str, arms: Mapping[str, Any], arm: str) -> str:
    try:
        found = values(arms, arm, metric)
    except (Unjudgeable, KeyError):
        return "not logged"
    finite = [value for value in found if math.isfinite(value)]
    failed = f", {len(found) - len(finite)} failed" if len(finite) < len(found) else ""
    if not finite:
        return "failed in every seed"
    mean, low, high = t_bounds(finite)
    if mean.is_integer():
        return f"{mean:,.0f}{failed}"
    interval = f" ({low:.3g} to {high:.3g})" if low < high else ""
    return f"{mean:.4g}{interval}{failed}"


def cost(content: Mapping[str, Any]) -> str:
    runs = sum(len(arm["runs"]) for part in ("arms", "sabotage") for arm in content[part].values())
    return (
        f"{runs} runs, {content['seconds'] / 60:.1f} minutes on {content['environment']['device']}, {machine(content)}"
    )


def machine(content: Mapping[str, Any]) -> str:
    """
    >>> machine({"environment": {"machine": "Intel(R) Xeon(R) Processor @ 2.60GHz, 2 cores", "device": "cpu"}})
    'Intel Xeon Processor @ 2.60GHz, 2 cores'
    """
    return re.sub(r"\s+", " ", re.sub(r"\((R|TM)\)", "", content["environment"]["machine"])).strip()


# ---- tables -------------------------------------------------------------------------------------------------------


def everything() -> tuple[list[dict[str, Any]], list[str]]:
    """The stored results of all cards, and the ids of cards that have none."""
    found = [result.read(path) for path in result.stored()] if any(result.RESULTS.glob("*.json")) else []
    return found, [id for id in card.ids() if id not in {content["id"] for content in found}]


def verdict(content: Mapping[str, Any]) -> str:
    """With what a reader must know beside it."""
    judged = result.judged(content)
    doubts = [] if judged.proves_itself else ["its sabotage was not refuted"]
    reasons = stale(content)
    doubts += [f"stale: other {', '.join(reasons)}"] if reasons else []
    return f"{judged.words} ({'; '.join(doubts)})" if doubts else judged.words


def results_page() -> str:
    """RESULTS.md, whole."""
    found, missing = everything()
    identities = [content for content in found if card.Card("", content["card"]).is_identity()]
    claims = [content for content in found if content not in identities]
    counts = _counted(claims)
    lines = [
        "# Results",
        "",
        "Every claim is an experiment: `dl-zoo reproduce claim=<id> tier=cpu` runs it, `dl-zoo judge` judges what is",
        "stored. Each has a sabotage: a broken arm, on which the verdict must be REFUTED, or the check proves nothing.",
        "In brackets one-sided 95 % bounds. Written by `make tables` from `results/claims/*.json`, which hold every",
        "seed's values.",
        "",
        f"## Claims: {counts}",
        "",
        table(COLUMNS, [row(content) for content in claims] + [unrun(id) for id in missing]),
        "",
        f"## Identities: {_counted(identities)}",
        "",
        "What must hold exactly in every seed: nothing here is a matter of statistics.",
        "",
        table(COLUMNS, [row(content) for content in identities]),
        "",
        "## Pictures",
        "",
        *(line for content in found for line in _picture(content)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _counted(found: Sequence[Mapping[str, Any]]) -> str:
    verdicts = [result.judged(content).words for content in found]
    return ", ".join(f"{verdicts.count(each)} {each.lower()}" for each in dict.fromkeys(sorted(verdicts))) or "none"


COLUMNS = [
    "article", "claim", "source and its number", "ours", "departs", "tier", "seeds", "verdict", "on CUDA",
    "date", "commit", "machine", "command",
]  # fmt: skip


def row(content: Mapping[str, Any]) -> list[str]:
    stated, id = content["card"], content["id"]
    return [
        str(stated["article"]),
        f"[{id}](results/claims/{id}.{content['tier']}.json): {stated['claim']}",
        f"{stated['source']}: {stated['reported']}",
        ours(content),
        result.judged(content).departs or "",
        content["tier"],
        f"{max(len(arm['runs']) for arm in content['arms'].values())}{', a fold each' if stated.get('folds') else ''}",
        f"**{verdict(content)}**",
        on_cuda(id),
        content["date"],
        content["commit"] or "",
        f"{content['environment']['device']}; {machine(content)}",
        f"`{content['command']}`",
    ]


def on_cuda(id: str) -> str:
    path = result.path_of(id, "cuda")
    return verdict(result.read(path)) if path.is_file() else "not run on CUDA"


def unrun(id: str) -> list[str]:
    stated = card.stated(id)
    known = [str(stated["article"]), f"{id}: {stated['claim']}", f"{stated['source']}: {stated['reported']}", ""]
    return [
        *known,
        stated["departs"] or "",
        "",
        "",
        NOT_RUN,
        "not run on CUDA",
        "",
        "",
        "",
        f"`dl-zoo reproduce claim={id}{'' if card.has_tier(stated, 'cpu') else ' tier=long'}`",
    ]


def _picture(content: Mapping[str, Any]) -> list[str]:
    path = result.path_of(content["id"], content["tier"]).with_suffix(".png")
    return [f"![{content['card']['claim']}]({path.as_posix()})", ""] if path.is_file() else []


def summary() -> str:
    """README's view of the same results."""
    found, missing = everything()
    rows = [
        [
            f"`{content['id']}`",
            content["card"]["claim"],
            str(content["card"]["reported"]),
            ours(content),
            f"**{verdict(content)}**",
        ]
        for content in found
        if content["tier"] == next(tier for tier in card.JUDGED if result.path_of(content["id"], tier).is_file())
    ]
    rows += [[f"`{id}`", card.stated(id)["claim"], str(card.stated(id)["reported"]), "", NOT_RUN] for id in missing]
    return table(["id", "claim", "reported", "ours", "verdict"], rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])
