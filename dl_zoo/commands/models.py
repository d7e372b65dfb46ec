"""`dl-zoo models [pattern]`: every model with its paper, read from the cards; nothing heavy is imported."""

from fnmatch import fnmatch

from dl_zoo.commands.arguments import Parser
from dl_zoo.errors import UserError
from dl_zoo.options import card, names, nearest, resolve_model


def main(argv: list[str]) -> int:
    parser = Parser("dl-zoo models", description="List the models: name, parameters, task, paper.")
    parser.add_argument("pattern", nargs="?", default="*", help="a name, or a glob such as 'lenet*'")
    pattern = resolve_model(parser.parse_args(argv).pattern)
    found = [name for name in names("model") if fnmatch(name, pattern)]
    if not found:
        raise UserError(f"{pattern}: no model matches; {nearest(pattern, names('model'))}")
    for name in found:
        print(f"{name:<14} {card(name)['parameters']:>13,}  {card(name)['task']:<16} {card(name)['paper']}")
    return 0
