"""Do stored results still hold on other code? One seed of every arm is run again and must give the stored numbers.

Most changes of code change no number, but the hashes cannot know that: a result is stale until somebody looks. To look
is cheaper than to run the whole claim anew, and as strict: a run is a pure function of its seed, so equality of
every metric and curve to the last bit, in one seed of every arm, broken ones included, says that the runs are the same.
Numbers that differ in the last place, as they do on another kind of processor, are no equality, and nothing is written.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dl_zoo import folder, reproduce
from dl_zoo.claims import provenance, result

SHELF = ".recheck"
HASHES = ("config_hash", "sources_hash", "code_hash", "targets", "choices")


def is_needed(plan: reproduce.Plan) -> bool:
    """Is there a result, and is it stale?"""
    path = result.path_of(plan.card.id, plan.tier)
    return path.is_file() and bool(provenance.stale(result.read(path)))


def of_one_seed(plan: reproduce.Plan) -> reproduce.Plan:
    """The plan with its first seed, in a folder of its own: the runs that the result came of stay as they are."""
    return replace(plan, seeds=plan.seeds[:1], shelf=SHELF)


def carry_out(plan: reproduce.Plan) -> str:
    """Run what is in a plan `of_one_seed`.

    Where all is equal the stored result now belongs to this code, and "" is returned; else the first difference, and
    what is stored stays as it is.
    """
    path = result.path_of(plan.card.id, plan.tier)
    before = result.read(path)
    if "card" in provenance.stale(before):
        return "its card was changed since"
    (seed,) = plan.seeds
    after = reproduce.run_all(plan)
    for part in ("arms", "sabotage"):
        for name, arm in after[part].items():
            stored = next(run for run in before[part][name]["runs"] if run["seed"] == seed)
            if difference := _difference(stored, result.plain(arm["runs"][0])):
                what = f"{'sabotage of ' if part == 'sabotage' else ''}{name}, seed {seed}"
                return f"{what}: {difference}"
    content = {**before, "rechecked": {"seed": seed, **{key: after[key] for key in ("commit", "date")}}}
    for part in ("arms", "sabotage"):
        content[part] = {
            name: {**arm, **{key: after[part][name][key] for key in HASHES}} for name, arm in before[part].items()
        }
    content["environment"] = {**before["environment"], "torch": after["environment"]["torch"]}
    content = result.sealed(content)
    folder.write_text(path, result.spelled(content))
    return ""


def _difference(stored: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that is not the same, with both values where that says something; nothing where all is."""
    if stored["status"] != now["status"]:
        return f"it is {now['status']}, and was {stored['status']}"
    for metric in {**stored["metrics"], **now["metrics"]}:
        was, is_now = stored["metrics"].get(metric), now["metrics"].get(metric)
        if was != is_now:
            return f"{metric} is {is_now}, and was {was}"
    return next((f"its {key} differ" for key in ("curves", "right") if stored.get(key) != now.get(key)), "")
