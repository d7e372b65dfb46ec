"""`dl-zoo check [overrides]`: everything that is wrong with a run, or with a claim, before it runs; and its cost."""

from typing import Any

from dl_zoo.commands.arguments import Parser, add_config_dir, add_trust, obey_trust
from dl_zoo.errors import UserError


def main(argv: list[str]) -> int:
    parser = Parser(
        "dl-zoo check",
        description="Compose and build a run, and train one step on random data of the true shape: all mistakes at "
        "once, then shapes, memory and time. Nothing is downloaded and nothing is written.",
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", help="as of dl-zoo train: group=option, key=value; or claim=ID")
    add_config_dir(parser)
    add_trust(parser)
    args = parser.parse_intermixed_args(argv)
    obey_trust(args.trust)
    found = _claims(args) if any(word.startswith("claim=") for word in args.overrides) else _run(args)
    print("\n".join(found.lines), end="\n" if found.lines else "")
    if found.mistakes:
        raise UserError(*found.mistakes)
    print("no mistakes")
    return 0


def _run(args: Any) -> Any:
    from dl_zoo.preflight import check

    return check(args.overrides, args.config_dir)


def _claims(args: Any) -> Any:
    from dl_zoo.commands.reproduce import picked

    ids, tier, own = picked(args.overrides, args.config_dir)
    from dl_zoo import claims_preflight
    from dl_zoo.preflight import Preflight

    found = [claims_preflight.check(id, tier, own, args.config_dir) for id in ids]
    return Preflight(
        mistakes=[line for each in found for line in each.mistakes],
        lines=[f"{id}  {line}" for id, each in zip(ids, found, strict=True) for line in each.lines],
    )
