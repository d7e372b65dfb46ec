"""`dl-zoo check [overrides]`: everything that is wrong with a run, and what it would cost, before it runs."""

from dl_zoo.commands.arguments import Parser, add_config_dir, add_trust, obey_trust
from dl_zoo.errors import UserError


def main(argv: list[str]) -> int:
    parser = Parser(
        "dl-zoo check",
        description="Compose and build a run, and train one step on random data of the true shape: all mistakes at "
        "once, then shapes, memory and time. Nothing is downloaded and nothing is written.",
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", help="as of dl-zoo train: group=option, key=value")
    add_config_dir(parser)
    add_trust(parser)
    args = parser.parse_intermixed_args(argv)
    obey_trust(args.trust)
    from dl_zoo.preflight import check

    found = check(args.overrides, args.config_dir)
    print("\n".join(found.lines), end="\n" if found.lines else "")
    if found.mistakes:
        raise UserError(*found.mistakes)
    print("no mistakes")
    return 0
