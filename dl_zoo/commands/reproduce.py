"""`dl-zoo reproduce claim=ID [tier=cpu]`: run a claim's arms, seeds and sabotage, judge, write, print the card."""

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dl_zoo.claims import card
from dl_zoo.claims.card import JUDGED
from dl_zoo.commands.arguments import Parser, add_config_dir, add_trust, obey_trust
from dl_zoo.errors import UserError

if TYPE_CHECKING:  # it imports Hydra: not for --help
    from dl_zoo.reproduce import Plan

EXAMPLES = """examples
  dl-zoo reproduce claim=c01_mlp_xor                      an arm and a seed after the other, then the verdict
  dl-zoo reproduce claim=c01_spirals,c08_six_layers tier=cpu
  dl-zoo reproduce claim=all tier=smoke                   does every arm run?
  dl-zoo reproduce claim=all --dry-run                    what is left to run, and for how long
  dl-zoo reproduce claim=all --recheck                    do stored results hold on this code? one seed an arm

A claim that was stopped goes on where it was: the same command again.
"""


def parser() -> Parser:
    result = Parser(
        "dl-zoo reproduce",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a landmark claim, judge it, write results/claims/<id>.<tier>.json and its picture, print its\n"
        "card. Exit code 3 when one is refuted or its sabotage is not, else 4 when one is inconclusive.",
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    result.add_argument(
        "words",
        nargs="*",
        metavar="claim=ID",
        help="claim=a,b or claim=all; tier=smoke|cpu|long|cuda; data_dir= and the like",
    )
    result.add_argument("--dry-run", action="store_true", help="list what would run, and for how long; run nothing")
    result.add_argument(
        "--recheck",
        action="store_true",
        help="stale results: run one seed of every arm again; where all is equal to the bit, they hold for this code",
    )
    add_config_dir(result)
    add_trust(result)
    return result


def main(argv: list[str]) -> int:
    args = parser().parse_intermixed_args(argv)
    obey_trust(args.trust)
    ids, tier, own = picked(args.words, args.config_dir)
    if args.recheck and tier not in JUDGED:
        raise UserError(f"tier={tier}: nothing of it is stored")
    from dl_zoo import recheck, reproduce

    plans = [reproduce.plan(card.read(id, args.config_dir), tier, own, args.config_dir) for id in ids]
    if args.recheck:
        plans = [recheck.of_one_seed(plan) for plan in plans if recheck.is_needed(plan)]
    if args.dry_run:
        print("\n".join(forecast(plans)))
        return 0
    try:
        codes = []
        for plan, title in zip(plans, titles(plans), strict=True):
            print(title, file=sys.stderr)
            codes.append(_again(plan) if args.recheck else _one(plan))
        return max(codes, key=[0, 4, 3].index, default=0)
    except reproduce.Interrupted as stop:
        name = signal.Signals(stop.signal).name
        print(f"stopped by {name} and saved; the same command goes on", file=sys.stderr)
        return 128 + stop.signal


def picked(words: Sequence[str], config_dirs: Sequence[str] = ()) -> tuple[list[str], str, list[str]]:
    """The claims and the tier that the words name, and the words that are left for their runs."""
    named = [word.partition("=")[2] for word in words if word.startswith("claim=")]
    tiers = [word.partition("=")[2] for word in words if word.startswith("tier=")]
    if len(named) != 1 or len(tiers) > 1:
        raise UserError("name claims once, such as claim=c01_mlp_xor or claim=all, and at most one tier=")
    own = [word for word in words if not word.startswith(("claim=", "tier="))]
    tier = tiers[0] if tiers else "cpu"
    if tier not in card.TIERS:
        from dl_zoo.options import nearest

        raise UserError(f"tier={tier}: there is no such tier; {nearest(tier, card.TIERS)}")
    ids = card.chosen(named[0], config_dirs)
    if named[0] == "all":  # those that have this tier
        ids = [id for id in ids if card.has_tier(card.stated(id, config_dirs), tier)]
        if not ids:
            raise UserError(f"tier={tier}: no claim has it")
    return ids, tier, own


def _one(plan: "Plan") -> int:
    from dl_zoo import reproduce
    from dl_zoo.claims import report, result
    from dl_zoo.commands.judge import exit_code

    content = reproduce.carry_out(plan)
    if plan.tier not in JUDGED:
        missing = list(reproduce.without_metrics(plan.card, content))
        if missing:
            raise UserError(*missing)
        print(f"{plan.card.id}: every arm runs; tier {plan.tier} is not judged")
        return 0
    picture = result.path_of(plan.card.id, plan.tier).with_suffix(".png")
    print("\n".join(report.card_lines(content, picture, plan.root)))
    return exit_code(result.judged(content))


def _again(plan: "Plan") -> int:
    from dl_zoo import recheck

    difference = recheck.carry_out(plan)
    print(f"{plan.card.id}: {f'{difference}; stale until it is run anew' if difference else 'the same to the bit'}")
    return 3 if difference else 0


def titles(plans: Sequence["Plan"]) -> Iterator[str]:
    """What each claim says; among several also which of them it is, and how long all that are left will take."""
    from dl_zoo.reproduce import time_in_words

    seconds = [plan.seconds_left() for plan in plans]
    for number, plan in enumerate(plans):
        left = sum(seconds[number:])
        place = f"[{number + 1}/{len(plans)}] " if len(plans) > 1 else ""
        rest = f" (about {time_in_words(left)}{' for all that are left' if place else ''})" if left else ""
        yield f"{place}{plan.card.id}: {plan.card.content['claim']}{rest}"


def forecast(plans: Sequence["Plan"]) -> list[str]:
    """A line an arm with runs left, and the sum."""
    from dl_zoo.reproduce import time_in_words

    lines, runs, seconds = [], 0, 0.0
    for plan in plans:
        left = plan.left()
        for arm in plan.arms:
            seeds = [seed for its, seed in left if its is arm]
            if seeds:
                took = plan.seconds_of(arm) * len(seeds)
                words = shlex.join(arm.origin["overrides"])
                lines.append(
                    f"{plan.card.id}  {arm.title}: {len(seeds)} runs, about {time_in_words(took)}: dl-zoo train {words}"
                )
                runs, seconds = runs + len(seeds), seconds + took
        if not left:
            lines.append(f"{plan.card.id}  done: only judged again")
    return [*lines, f"{runs} runs, about {time_in_words(seconds)}"]
