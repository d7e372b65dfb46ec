"""A claim's card, `configs/claim/<id>.yaml`: what is asserted, against what, and what would refute it. No torch.

article, claim, source, reported   where the claim stands, in one sentence, whose it is, the number printed there
departs        what is other or smaller than in the source; null if nothing is
arms           name -> {experiment, overrides[, from]}: the runs that are compared; `from: other` starts each seed's run
               from the weights of that arm's run of the same seed, and `from: {regularizer.synthetic.source: other}`
               hands it that run by this key instead
sabotage       arm -> {overrides[, experiment, from]}: that arm broken; with it the verdict must be REFUTED
seeds          the same in every arm, so that the arms are paired
folds          {key: n}, where there are some: the run of seed s has key = s mod n (`data.fold: 10`), so that n seeds in
               a row are a cross validation, and their mean is that of the folds
calibration    {seeds, commit}: what the thresholds were chosen on; never the seeds that are judged
tiers          name -> {overrides[, minutes, seeds, departs]}: smoke, cpu or long or both, and cuda
rule           what must hold, all of it: see `judge`
figure         {kind: curves | profile | values, metric[, label, across, log]}; if not stated the first rule's metric
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dl_zoo.errors import UserError
from dl_zoo.options import CONFIGS, LOADER, names, nearest

KEYS = (
    "article",
    "claim",
    "source",
    "reported",
    "departs",
    "arms",
    "sabotage",
    "seeds",
    "calibration",
    "tiers",
    "rule",
)
MAY_HAVE = ("figure", "folds")
NEEDED: Mapping[str, tuple[str, ...]] = {  # by kind of rule
    "less": ("metric", "arm", "by"),
    "at_most": ("metric", "arm", "value"),
    "at_least": ("metric", "arm", "value"),
    "equivalent": ("metric", "arm", "by"),
    "count": ("metric", "arm", "k"),
    "identity": ("metric", "arm", "value"),
}
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "less": ("than", "than_metric", "over"),
    "equivalent": ("than", "than_metric", "value"),
    "count": ("at_least", "at_most"),
    "identity": ("tolerance",),
}
NUMBERS = ("by", "value", "k", "at_least", "at_most", "tolerance")
FIGURES = ("curves", "profile", "values")
JUDGED = ("cpu", "long", "cuda")  # smoke only shows that the arms run
TIERS = ("smoke", *JUDGED)


@dataclass(frozen=True)
class Card:
    """A sound card. `content` is the YAML as it stands."""

    id: str
    content: Mapping[str, Any]

    def seeds(self, tier: str) -> list[int]:
        return list(self.content["tiers"][tier].get("seeds", self.content["seeds"]))

    def fold(self, seed: int) -> dict[str, int]:
        """What this seed's runs have that those of other seeds have not: their fold."""
        return {key: seed % count for key, count in self.content.get("folds", {}).items()}

    def departs(self, tier: str) -> str | None:
        """What is other than in the source, at this tier."""
        departs = self.content["tiers"].get(tier, {}).get("departs", self.content["departs"])
        return str(departs) if departs else None

    def overrides(self, arm: str, tier: str, broken: bool = False) -> list[str]:
        """The words that make one arm's run, as `dl-zoo train` takes them; `broken`: with its sabotage."""
        stated = self.content["arms"][arm]
        sabotage = self.content["sabotage"].get(arm, {}) if broken else {}
        own = [] if "experiment" in sabotage else stated.get("overrides") or []
        experiment = sabotage.get("experiment", stated["experiment"])
        tiers = self.content["tiers"][tier].get("overrides") or []
        return [f"experiment={experiment}", *own, *(sabotage.get("overrides") or []), *tiers]

    def start(self, arm: str, broken: bool = False) -> str | None:
        """The arm whose runs this one's are given, each that of its seed."""
        return self._start(arm, broken)[1]

    def start_key(self, arm: str, broken: bool = False) -> str:
        """By which key of the configuration: `weights`, if the card names no other."""
        return self._start(arm, broken)[0]

    def _start(self, arm: str, broken: bool) -> tuple[str, str | None]:
        sabotage = self.content["sabotage"].get(arm, {}) if broken else {}
        return _keyed(sabotage["from"] if "from" in sabotage else self.content["arms"][arm].get("from"))

    def is_identity(self) -> bool:
        return all(rule["kind"] == "identity" for rule in self.content["rule"])


def ids(config_dirs: Sequence[str] = ()) -> list[str]:
    own = {path.stem for folder in config_dirs for path in (Path(folder) / "claim").glob("*.yaml")}
    return sorted({*names("claim"), *own})


def read(id: str, config_dirs: Sequence[str] = ()) -> Card:
    """The card of this name.

    Raises:
        UserError: there is none, or everything that is wrong with it, a line each.
    """
    content = stated(id, config_dirs)
    if wrong := list(mistakes(content, experiments(config_dirs))):
        raise UserError(*(f"claim={id}: {line}" for line in wrong))
    return Card(id, content)


def stated(id: str, config_dirs: Sequence[str] = ()) -> Mapping[str, Any]:
    """The YAML of a card, sound or not. UserError: there is none, or it is no mapping."""
    folders = [CONFIGS, *map(Path, config_dirs)]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder")
    path = next((p for folder in reversed(folders) if (p := folder / "claim" / f"{id}.yaml").is_file()), None)
    if path is None:
        raise UserError(f"claim={id}: there is no such claim; {nearest(id, ids(config_dirs))}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except yaml.YAMLError as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no claim card: it must be a mapping with {', '.join(KEYS)}")
    return content


def has_tier(content: Mapping[str, Any], tier: str) -> bool:
    """True also of a card that is not sound: its mistakes are told later."""
    tiers = content.get("tiers")
    return tier in tiers if isinstance(tiers, dict) else True


def chosen(text: str, config_dirs: Sequence[str] = ()) -> list[str]:
    """The ids that `claim=` names: one, several with commas, or all."""
    known = ids(config_dirs)
    picked = known if text == "all" else list(dict.fromkeys(part for part in text.split(",") if part))
    if wrong := [id for id in picked if id not in known]:
        raise UserError(*(f"claim={id}: there is no such claim; {nearest(id, known)}" for id in wrong))
    if not picked:
        raise UserError(f"claim={text}: name one, several with commas, or all; dl-zoo judge lists those that were run")
    return picked


def asked_by(rule: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """The pairs (arm, metric) whose values a rule looks at."""
    arm, metric = rule.get("arm"), rule.get("metric")
    pairs = [(arm, metric)]
    if {"than", "than_metric"} & rule.keys():
        pairs.append((rule.get("than", arm), rule.get("than_metric", metric)))
    return pairs


# ---- what can be wrong with a card, without building anything -----------------------------------------------------


def experiments(config_dirs: Sequence[str] = ()) -> list[str]:
    own = [path.stem for folder in config_dirs for path in (Path(folder) / "experiment").glob("*.yaml")]
    return [*names("experiment"), *own]


def mistakes(content: Mapping[str, Any], experiments: Sequence[str] | None = None) -> Iterator[str]:
    """Everything that is wrong with a card and can be seen from its text; `experiments`: those there are, if known."""
    for key in sorted(content.keys() - {*KEYS, *MAY_HAVE}):
        yield f"{key}: a card has no such key; {nearest(key, [*KEYS, *MAY_HAVE])}"
    for key in ("article", "claim", "source", "reported"):
        if not str(content.get(key) or "").strip():
            yield f"no {key}"
    if content.get("article") and not re.fullmatch(r"\d+(\.\d+)+", str(content["article"])):
        yield f"article: {content['article']} is not of the form 1.5.3"
    elif isinstance(content.get("article"), float):
        yield f'article: write "{content["article"]}", or 1.10 becomes 1.1'
    if "departs" not in content:
        yield "departs: say what is other or smaller than in the source, or null"
    wrong = list(wrong_types(content))
    yield from wrong
    if wrong:
        return  # the rest relies on them
    arms = content.get("arms")
    if not arms:
        yield "no arms"
    for name, arm in (arms or {}).items():
        yield from _of_arm(f"arms.{name}", arm, experiments, whole=True)
    yield from _of_starts("arms", arms or {}, arms or {})
    yield from _of_starts("sabotage", content.get("sabotage") or {}, arms or {})
    yield from _of_sabotage(content.get("sabotage"), arms or {}, experiments)
    yield from _of_seeds(content)
    yield from _of_folds(content)
    yield from _of_tiers(content.get("tiers"))
    rules = content.get("rule") or []
    if not rules:
        yield "no rule"
    fewest = min((len(seeds) for seeds in _seed_lists(content).values() if seeds), default=0)
    for number, rule in enumerate(rules, start=1):
        yield from (f"rule {number}: {line}" for line in _of_rule(rule, arms or {}, fewest))
    figure = content.get("figure", {"kind": "values", "metric": ""})
    if not isinstance(figure, dict) or figure.get("kind") not in FIGURES or "metric" not in figure:
        yield f"figure: needs a metric and a kind, one of {', '.join(FIGURES)}"


TYPES: Mapping[str, tuple[type, ...]] = {
    "claim": (str,),
    "source": (str,),
    "departs": (str,),
    "arms": (dict,),
    "sabotage": (dict,),
    "seeds": (list,),
    "folds": (dict,),
    "calibration": (dict,),
    "tiers": (dict,),
    "rule": (list,),
    "figure": (dict,),
}
WORDS: Mapping[type, str] = {str: "a text", dict: "a mapping", list: "a list"}
TEXTS = ("kind", "metric", "arm", "than", "than_metric", "over")  # of a rule


def wrong_types(content: Mapping[str, Any]) -> Iterator[str]:
    """Values of another kind than the rest of a card relies on."""
    for key, kinds in TYPES.items():
        if content.get(key) is not None and not isinstance(content[key], kinds):
            yield f"{key}: must be {WORDS[kinds[0]]}"
    for group in ("arms", "sabotage", "tiers"):
        nodes = content.get(group)
        for name, node in nodes.items() if isinstance(nodes, dict) else ():
            if not isinstance(name, str) or not isinstance(node, dict):
                yield f"{group}.{name}: must be a mapping, its name a text"
                continue
            words = node.get("overrides", [])
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                yield f"{group}.{name}: overrides must be a list of words such as model.width=50"
    rules = content.get("rule")
    for number, rule in enumerate(rules if isinstance(rules, list) else [], start=1):
        if not isinstance(rule, dict):
            yield f"rule {number}: must be a mapping"
        elif wrong := [key for key in TEXTS if key in rule and not isinstance(rule[key], str)]:
            yield f"rule {number}: {', '.join(wrong)} must be a text"


def _of_arm(where: str, arm: Any, experiments: Sequence[str] | None, whole: bool) -> Iterator[str]:
    arm = arm if isinstance(arm, dict) else {}
    named = str(arm.get("experiment") or "")
    if whole and not named:
        yield f"{where}: names no experiment"
    elif named and experiments is not None and named not in experiments:
        yield f"{where}: there is no experiment {named}; {nearest(named, experiments)}"
    if unknown := sorted(arm.keys() - {"experiment", "overrides", "from"}):
        yield f"{where}: has experiment, overrides and from, not {', '.join(unknown)}"


def _keyed(start: Any) -> tuple[str, str | None]:
    """(key, arm) of a `from:`."""
    return next(iter(start.items())) if isinstance(start, dict) else ("weights", start)


def _of_starts(group: str, nodes: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[str]:
    """`from:` names another arm, which starts afresh itself: so the order of the runs is plain."""
    for name, node in nodes.items():
        start = node.get("from") if isinstance(node, dict) else None
        if isinstance(start, dict) and len(start) != 1:
            yield f"{group}.{name}.from: must be an arm, or one key and its arm"
            continue
        start = _keyed(start)[1]
        if start is not None and (not isinstance(start, str) or start not in arms or start == name):
            yield f"{group}.{name}.from: {start} is no other arm; {nearest(str(start), arms)}"
        elif start is not None and isinstance(arms[start], dict) and arms[start].get("from"):
            yield f"{group}.{name}.from: {start} itself starts from another arm; name one that starts afresh"


def _of_sabotage(sabotage: Any, arms: Mapping[str, Any], experiments: Sequence[str] | None) -> Iterator[str]:
    if not isinstance(sabotage, dict) or not sabotage:
        yield "no sabotage: a check that cannot be seen to fail proves nothing"
        return
    for name, arm in sabotage.items():
        if name not in arms:
            yield f"sabotage.{name}: there is no such arm; {nearest(name, arms)}"
        if not isinstance(arm, dict) or not (arm.get("overrides") or arm.get("experiment") or "from" in arm):
            yield f"sabotage.{name}: changes nothing"
        yield from _of_arm(f"sabotage.{name}", arm, experiments, whole=False)


def _of_seeds(content: Mapping[str, Any]) -> Iterator[str]:
    def are_seeds(value: Any) -> bool:
        return isinstance(value, list) and all(type(seed) is int and seed >= 0 for seed in value)

    calibration = content.get("calibration")
    if not isinstance(calibration, dict) or not are_seeds(calibration.get("seeds")) or "commit" not in calibration:
        yield "calibration: needs seeds (a list; [] if none were used) and commit"
        calibration = {"seeds": []}
    for where, seeds in _seed_lists(content).items():
        if not seeds:
            yield f"no {where}"
        elif not are_seeds(seeds) or len(set(seeds)) < len(seeds):
            yield f"{where}: must be different whole numbers"
        elif overlap := sorted({*seeds} & {*calibration["seeds"]}):
            yield f"calibration: seed {', '.join(map(str, overlap))} is judged too ({where}); the rule has seen it"


def _of_folds(content: Mapping[str, Any]) -> Iterator[str]:
    for key, count in (content.get("folds") or {}).items():
        if not isinstance(key, str) or type(count) is not int or count < 2:
            yield f"folds.{key}: must be how many there are, at least 2"
            continue
        for where, seeds in _seed_lists(content).items():
            if seeds and sorted(seed % count for seed in seeds) != sorted([*range(count)] * (len(seeds) // count)):
                yield f"folds: {where} leave folds out or count some more than others; take {count} in a row"


def _seed_lists(content: Mapping[str, Any]) -> dict[str, Any]:
    """The card's own seeds, and those of tiers that have others."""
    own = {f"tiers.{name}.seeds": t["seeds"] for name, t in (content.get("tiers") or {}).items() if "seeds" in t}
    return {"seeds": content.get("seeds"), **own}


def _of_tiers(tiers: Any) -> Iterator[str]:
    if not isinstance(tiers, dict) or "smoke" not in tiers or not {"cpu", "long"} & tiers.keys():
        yield "tiers: needs smoke, and cpu or long"
    for name, tier in (tiers if isinstance(tiers, dict) else {}).items():
        if name not in TIERS:
            yield f"tiers.{name}: there is no such tier; {nearest(name, TIERS)}"
        if not isinstance(tier, dict) or tier.keys() - {"overrides", "minutes", "seeds", "departs"}:
            yield f"tiers.{name}: has overrides, minutes, seeds and departs"
        elif name != "smoke" and not _is_finite(tier.get("minutes")):
            yield f"tiers.{name}: say by minutes what it costs"


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _of_rule(rule: Mapping[str, Any], arms: Mapping[str, Any], seeds: int) -> Iterator[str]:
    if rule.get("kind") not in NEEDED:
        yield f"kind must be one of {', '.join(NEEDED)}"
        return
    kind = rule["kind"]
    known = {"kind", *NEEDED[kind], *OPTIONAL.get(kind, ())}
    for key in sorted(known & {*NEEDED[kind]} - rule.keys()):
        yield f"{kind} needs {key}"
    for key in sorted(rule.keys() - known):
        yield f"{kind} has no {key}"
    for key in ("arm", "than"):
        if key in rule and rule[key] not in arms:
            yield f"{key}: there is no arm {rule[key]}; {nearest(str(rule[key]), arms)}"
    for key in NUMBERS:
        if key in rule and not _is_finite(rule[key]):
            yield f"{key}: must be a number"
            return
    yield from _OF_KIND.get(kind, lambda *_: ())(rule, seeds)


def _of_less(rule: Mapping[str, Any], seeds: int) -> Iterator[str]:
    if not {"than", "than_metric"} & rule.keys():
        yield "less needs than, an arm, or than_metric"
    if rule.get("over", "seeds") not in ("seeds", "curve", "items"):
        yield "over must be seeds, curve or items"
    if rule.get("over") == "items" and (rule.get("metric") != "test/error" or rule.get("by") != 0):
        yield "over: items compares test/error by 0"
    if "over" in rule and ("than" not in rule or "than_metric" in rule):
        yield "over compares one metric of two arms, arm and than"


def _of_equivalent(rule: Mapping[str, Any], seeds: int) -> Iterator[str]:
    if ("than" in rule) == ("value" in rule) or ("value" in rule and "than_metric" in rule):
        yield "equivalent needs than, an arm, or value"
    if rule.get("by", 1) <= 0:
        yield "by: must be above 0"


def _of_count(rule: Mapping[str, Any], seeds: int) -> Iterator[str]:
    if ("at_least" in rule) == ("at_most" in rule):
        yield "count needs at_least or at_most"
    if seeds and not 1 <= rule.get("k", 1) <= seeds:
        yield f"k: must be from 1 to the number of seeds, {seeds}"


_OF_KIND: Mapping[str, Callable[[Mapping[str, Any], int], Iterable[str]]] = {
    "less": _of_less,
    "equivalent": _of_equivalent,
    "count": _of_count,
}
