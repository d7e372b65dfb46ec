"""`dl-zoo claims [pattern]`: every claim with what it costs and its verdict, from cards and results/; no torch."""

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from dl_zoo.claims import card, report, result
from dl_zoo.commands.arguments import Parser, add_config_dir
from dl_zoo.errors import UserError
from dl_zoo.options import nearest


def main(argv: list[str]) -> int:
    parser = Parser("dl-zoo claims", description="List the claims: id, minutes it takes, verdict, what is claimed.")
    parser.add_argument("pattern", nargs="?", default="*", help="an id, or a glob such as 'c08*'")
    add_config_dir(parser)
    asked = parser.parse_args(argv)
    known = card.ids(asked.config_dir)
    found = [id for id in known if fnmatch(id, asked.pattern)]
    if not found:
        raise UserError(f"{asked.pattern}: no claim matches; {nearest(asked.pattern, known)}")
    for id in found:
        print("\n".join(lines(id, card.read(id, asked.config_dir).content)))
    return 0


def lines(id: str, stated: Mapping[str, Any]) -> list[str]:
    """Two lines: id, minutes and verdict; and the sentence."""
    tiers = stated["tiers"]
    tier = next((each for each in card.JUDGED if each in tiers), "cpu")
    minutes = (tiers.get(tier) or {}).get("minutes")
    takes = "" if minutes is None else f"{minutes:g} min at {tier}"
    stored = [result.path_of(id, each) for each in card.JUDGED]  # here; else what comes with the clone
    stored += [result.COME_WITH_THE_CLONE / path.name for path in stored]
    path = next(filter(Path.is_file, stored), None)
    verdict = report.verdict(result.read(path)) if path else report.NOT_RUN
    return [f"{id:<28} {takes:<16} {verdict}", f"    {stated['claim']}"]
