"""`dl-zoo find-lr [overrides]`: the learning-rate range test, by Lightning's tuner."""

import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dl_zoo.commands.arguments import Parser, add_config_dir, add_trust, obey_trust
from dl_zoo.compose import compose, resolve
from dl_zoo.errors import UserError

LOWEST, HIGHEST = 1e-7, 10.0


def main(argv: list[str]) -> int:
    parser = Parser(
        "dl-zoo find-lr",
        description="Train a few steps while the learning rate climbs from 1e-7 to 10, and suggest the one at which "
        "the loss falls fastest (Smith 2017, arXiv:1506.01186, section 3.3). Penalties count, other callbacks do not; "
        "nothing is kept.",
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", help="as of dl-zoo train: group=option, key=value")
    parser.add_argument("--steps", type=int, default=100, help="how many rates are tried (100)")
    parser.add_argument("--plot", type=Path, help="draw loss over learning rate to this PNG")
    add_config_dir(parser)
    add_trust(parser)
    args = parser.parse_intermixed_args(argv)
    obey_trust(args.trust)
    if args.steps < 20:
        raise UserError(f"--steps {args.steps}: must be at least 20; the first ten are not looked at")
    cfg = compose(args.overrides, args.config_dir)
    found = find(cfg, args.steps)
    suggestion = found.suggestion()
    if suggestion is None:
        raise UserError("the loss was finite at too few learning rates to suggest one; try --steps 200")
    if args.plot:
        draw(found, args.plot)
        print(f"drawn        {args.plot}")
    print(
        f"suggestion   optimizer.lr={suggestion:.2g}   ({len(found.results['lr'])} rates tried, now {cfg.optimizer.lr})"
    )
    return 0


def find(cfg: DictConfig, steps: int) -> Any:
    """Lightning's result of the range test: `.results` with lists `lr` and `loss`, `.suggestion()`, `.plot()`."""
    import pytorch_lightning as pl
    from pytorch_lightning.tuner import Tuner

    from dl_zoo import run

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = run.build_data(cfg)
    cfg = resolve(cfg, data.dims)
    task = run.build_task(cfg, run.build_net(cfg))
    with tempfile.TemporaryDirectory() as scratch, run.lightning_kept_quiet():
        trainer = run.build_trainer(cfg, Path(scratch), logger=False, enable_progress_bar=False)
        return Tuner(trainer).lr_find(
            task, datamodule=data, min_lr=LOWEST, max_lr=HIGHEST, num_training=steps, update_attr=False
        )


def draw(found: Any, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    found.plot(suggest=True, ax=axes)
    axes.set(xlabel="learning rate", ylabel="smoothed training loss")
    axes.set_ylim(0, 1.3 * found.results["loss"][0] if found.results["loss"][0] > 0 else None)
    figure.savefig(path, dpi=150)
