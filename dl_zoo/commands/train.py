"""`dl-zoo train`: Hydra's grammar over `run`. Configuration errors are answered before torch is imported."""

import argparse
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dl_zoo import folder
from dl_zoo.commands.arguments import Parser, add_config_dir, add_trust, obey_trust
from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.options import groups, names, nearest

EXAMPLES = """
  dl-zoo train experiment=lenet5_digits                   LeNet-5 on real scanned digits, in seconds
  dl-zoo train model=mlp data=mnist optimizer=sgd optimizer.lr=0.05
  dl-zoo train 'regularizer=[dropout,l2]' regularizer.dropout.rate=0.3
  dl-zoo train experiment=lenet5_mnist trainer.max_epochs=2
  dl-zoo train -m model=mlp,lenet5 seed=0,1,2              a sweep: one run a combination
  dl-zoo train resume=auto                                the newest unfinished run of the same configuration
  dl-zoo train --cfg job                                  show the configuration, run nothing
"""


def parser() -> Parser:
    listing = "\n".join(f"  {group:<12} {', '.join(names(group))}" for group in groups())
    result = Parser(
        "dl-zoo train",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a model on a dataset, test its best checkpoint, and keep it all in runs/<name>/<stamp>/.",
        epilog=f"groups, picked as group=option, their keys as group.key=value\n\n{listing}\n\nexamples\n{EXAMPLES}",
        allow_abbrev=False,
    )
    result.add_argument("overrides", nargs="*", help="group=option, key=value, +key=value, ~key")
    result.add_argument("-m", "--multirun", action="store_true", help="run every combination of comma-separated values")
    result.add_argument("-c", "--cfg", choices=["job"], help="print the configuration and stop")
    result.add_argument("--resolve", action="store_true", help="with --cfg: without interpolations")
    add_config_dir(result)
    add_trust(result)
    return result


def main(argv: list[str]) -> int:
    args = parser().parse_intermixed_args(argv)
    obey_trust(args.trust)
    if args.multirun:
        if args.cfg:
            raise UserError("--cfg shows one run; leave out -m")
        from dl_zoo.sweep import sweep

        return sweep(args.overrides, args.config_dir, args.trust)
    cfg = configuration(args.overrides, args.config_dir)
    if args.cfg:
        print(OmegaConf.to_yaml(cfg, resolve=args.resolve), end="")
        return 0
    return exit_code(train(cfg))


def configuration(overrides: list[str], config_dirs: list[str]) -> DictConfig:
    """As composed; or, for `resume=FOLDER`, as kept in that folder with the command line's values over it."""
    kept = [text for text in overrides if text.startswith("resume=") and text not in ("resume=auto", "resume=null")]
    rest = [text for text in overrides if text not in kept]
    if not kept:
        return compose(overrides, config_dirs)
    where = Path(kept[-1].removeprefix("resume=")).expanduser()
    cfg = folder.read_config(where)
    picked = {text.split("=")[0] for text in rest} & set(groups())
    if picked - {"trainer", "logger"}:  # the whole command again: it must say the same
        return compose(overrides, config_dirs)
    composed = compose([text for text in rest if text.split("=")[0] in picked], config_dirs)
    usual = compose()
    for group in picked:  # what the option itself says, not what it inherits
        cfg[group].update({key: value for key, value in composed[group].items() if usual[group].get(key) != value})
    for text in [t for t in rest if t.split("=")[0] not in picked]:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            raise UserError(f"{text!r} is not of the form key=value") from None
        key = override.key_or_group
        missing = object()
        if OmegaConf.select(cfg, key, default=missing) is missing:
            raise UserError(f"{key}: the run in {where} has no such key; {nearest(key, [str(k) for k in cfg])}")
        OmegaConf.update(cfg, key, override.value())
    cfg.resume, cfg.run_dir = str(where), None
    return cfg


def train(cfg: DictConfig) -> Any:
    from dl_zoo.run import run

    return run(cfg)


def exit_code(result: Any) -> int:
    if result.status == "diverged":
        raise UserError(result.reason)
    return 0 if result.status == "finished" else 128 + result.signal
