"""`dl-zoo models [pattern]`: every model with its paper, read from the cards; nothing heavy is imported."""

from fnmatch import fnmatch

from omegaconf import OmegaConf

from dl_zoo.commands.arguments import Parser
from dl_zoo.compose import CONFIGS, nearest
from dl_zoo.errors import UserError


def main(argv: list[str]) -> int:
    parser = Parser("dl-zoo models", description="List the models.")
    parser.add_argument("pattern", nargs="?", default="*", help="a glob, such as 'lenet*'")
    pattern = parser.parse_args(argv).pattern
    paths = sorted((CONFIGS / "model").glob("*.yaml"))
    rows = [(p.stem, OmegaConf.load(p).card) for p in paths if fnmatch(p.stem, pattern)]
    if not rows:
        raise UserError(f"{pattern}: no model matches; {nearest(pattern, [p.stem for p in paths])}")
    for name, card in rows:
        print(f"{name:<14} {card.parameters:>13,}  {card.task:<16} {card.paper}")
    return 0
