"""`dl-zoo find-lr [overrides]`: the learning-rate range test.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, arXiv:1506.01186, section 3.3: some steps while
the rate climbs; where the loss falls fastest is a good rate. (Lightning's tuner divides its first means by too much, so
its curves rise from half the loss and its suggestion falls where nothing is learned yet.)
"""

import math
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import DictConfig

from dl_zoo.commands.arguments import Parser, add_config_dir, add_trust, obey_trust
from dl_zoo.compose import compose, resolve
from dl_zoo.errors import UserError

LOWEST, HIGHEST = 1e-7, 10.0
MEMORY = 0.9  # of the running mean of the loss: about ten steps
LOST = 4.0  # the test ends where the loss is so many times its best
Point = tuple[float, float]  # rate, smoothed loss


def main(argv: list[str]) -> int:
    parser = Parser(
        "dl-zoo find-lr",
        description="Train a few steps while the learning rate climbs from 1e-7 to 10, and suggest the one at which "
        "the loss falls fastest. Penalties count, the regularizers that act between steps do not; nothing is kept.",
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", help="as of dl-zoo train: group=option, key=value")
    parser.add_argument("--steps", type=int, default=200, help="how many rates are tried (200)")
    parser.add_argument("--plot", type=Path, help="draw loss over learning rate to this PNG")
    add_config_dir(parser)
    add_trust(parser)
    args = parser.parse_intermixed_args(argv)
    obey_trust(args.trust)
    if args.plot and not args.plot.absolute().parent.is_dir():
        raise UserError(f"--plot {args.plot}: there is no such folder to draw into")
    if args.steps < 20:
        raise UserError(f"--steps {args.steps}: must be at least 20, or the loss is too rough to read")
    cfg = compose(args.overrides, args.config_dir)
    points = range_test(cfg, args.steps)
    best = steepest(points)
    if args.plot:
        draw(points, best, args.plot)
    print(f"suggestion   optimizer.lr={best[0]:.2g}   ({len(points)} rates tried; it is {cfg.optimizer.lr} now)")
    return 0


def range_test(cfg: DictConfig, steps: int) -> list[Point]:
    """Rates in even ratios with the smoothed training loss at each, until the loss is lost."""
    import pytorch_lightning as pl

    from dl_zoo import checkpoints, dataset, run
    from dl_zoo.waiting import waiting

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = dataset.ready(cfg)
    cfg = resolve(cfg, data.dims)
    net = run.build_net(cfg)
    if cfg.weights:
        checkpoints.load_weights(net, cfg.weights, cfg.weights_map, classes=data.classes)
    run.freeze(net, cfg.freeze)
    task = run.build_task(cfg, net)
    if not task.automatic_optimization:
        raise UserError("find-lr: two nets that play against each other have no loss whose fall tells a rate")
    with tempfile.TemporaryDirectory() as scratch:
        data.trainer = run.build_trainer(cfg, Path(scratch), logger=False, enable_progress_bar=False)
    task.to(data.trainer.strategy.root_device).train()
    points: list[Point] = []
    mean = 0.0
    for step, (rate, loss) in enumerate(waiting(_losses(task, data, steps), "trying rates", steps), start=1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        smoothed = mean / (1 - MEMORY**step)
        if not math.isfinite(loss) or (points and smoothed > LOST * min(value for _, value in points)):
            break
        points.append((rate, smoothed))
    return points


def _losses(task: Any, data: Any, steps: int) -> Iterator[Point]:
    optimizer = task.optimizer_over([p for p in task.net.parameters() if p.requires_grad])
    usual = optimizer.param_groups[0]["lr"]  # the highest, which optimizer.lr names; the others keep their distance
    shares = [group["lr"] / usual if usual else 1.0 for group in optimizer.param_groups]
    batches = _endless(data.train_dataloader())
    for step in range(steps):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1))
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = share * rate
        batch = next(batches)

        def closure(batch: Any = batch) -> Any:
            optimizer.zero_grad()
            loss = task.objective(batch)
            loss.backward()
            return loss.detach()

        yield rate, float(optimizer.step(closure))


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def steepest(points: list[Point]) -> Point:
    """Where the smoothed loss falls most from one rate to the next; in even ratios, so per decade.

    >>> steepest([(0.01, 2.3), (0.1, 2.2), (1.0, 1.5), (10.0, 1.6)])
    (1.0, 1.5)
    """
    falls = [(before[1] - after[1], after) for before, after in pairwise(points)]
    fall, point = max(falls, default=(0.0, None))
    if point is None or fall <= 0:
        raise UserError("the loss falls at no learning rate from 1e-7 to 10; is the net built to learn?")
    return point


def draw(points: list[Point], best: Point, path: Path) -> None:
    from matplotlib.figure import Figure

    from dl_zoo.comparison import save

    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    losses = [loss for _, loss in points]
    axes.plot([rate for rate, _ in points], losses)
    axes.plot(*best, "o", label=f"falls fastest at {best[0]:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed")
    axes.set_ylim(0.9 * min(losses), 1.3 * median(losses))  # not to the top of where it diverges
    axes.legend(frameon=False)
    save(figure, path)
