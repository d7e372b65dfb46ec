"""`dl-zoo compare PATHS`: what differs between finished runs, and what came of it."""

import argparse
from pathlib import Path

from dl_zoo.commands.arguments import Parser
from dl_zoo.comparison import (
    best_first,
    chosen_metrics,
    common_parent,
    count,
    differing,
    figure,
    markdown,
    print_csv,
    read_settings,
    save,
    table,
)

EXAMPLES = """examples
  dl-zoo compare                                          every finished run below runs/
  dl-zoo compare runs/lenet5-mnist runs/mlp-mnist --metric test/error --metric 'val/*'
  dl-zoo compare runs/sweep --metric test/acc --plot sweep.png
"""


def parser() -> Parser:
    result = Parser(
        "dl-zoo compare",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compare finished runs: a row for each setting, mean and 95 % t interval over its seeds.",
        epilog=EXAMPLES,
    )
    result.add_argument("paths", nargs="*", default=["runs"], help="run folders, or folders that hold them; runs/")
    result.add_argument(
        "--metric", action="append", metavar="GLOB", help="a metric to show, repeatable; the first one orders; test/*"
    )
    result.add_argument("--csv", action="store_true", help="print CSV instead: a line for each run, every metric")
    result.add_argument("--plot", metavar="FILE.png", help="draw the first metric as well (.pdf and .svg work too)")
    return result


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    settings = read_settings(args.paths)
    runs = [run for setting in settings for run in setting]
    metrics = chosen_metrics(runs, args.metric or ["test/*"])
    settings = best_first(settings, metrics[0])
    columns = differing([setting[0].keys for setting in settings])
    if args.plot:
        save(figure(settings, columns, metrics[0]), Path(args.plot))
    if args.csv:
        print_csv(settings, columns, metrics if args.metric else chosen_metrics(runs, ["*"]))
    else:
        print(f"{count(runs, 'run')} in {count(settings, 'setting')} below {common_parent(runs)}\n")
        print(markdown(table(settings, columns, metrics)))
    return 0
