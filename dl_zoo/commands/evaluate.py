"""`dl-zoo evaluate PATH`: the numbers of a trained run, from its folder or checkpoint alone."""

import json
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dl_zoo.commands.arguments import Parser, add_trust, obey_trust
from dl_zoo.errors import UserError

if TYPE_CHECKING:  # torch is imported only once the path is found good
    from dl_zoo.callbacks.by_class import OfClass
    from dl_zoo.callbacks.predictions import Predictions

WRITTEN = (("evaluation", "json"), ("predictions", "csv"), ("classes", "csv"))


@dataclass(frozen=True)
class Evaluation:
    metrics: dict[str, float]
    files: list[Path]  # that now hold the metrics, every prediction, and the measures of each class
    classes: "list[OfClass]"


def main(argv: list[str]) -> int:
    parser = Parser("dl-zoo evaluate", description="Measure a trained run again.")
    parser.add_argument("path", help="a run folder, a checkpoint (ckpt_path=PATH is understood too), or zoo:NAME")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--checkpoint", choices=["best", "last", "previous"], help="of a run folder; default: best")
    add_trust(parser)
    parser.add_argument("overrides", nargs="*", help="after --: keys of the stored configuration, data_dir=...")
    args = parser.parse_args(argv)
    obey_trust(args.trust)
    overrides = dict(_pair(text) for text in args.overrides)
    result = measure(args.path.removeprefix("ckpt_path="), args.split, args.checkpoint, overrides)
    print(_words(result))
    return 0


def evaluate(
    path: str | Path, split: str = "test", checkpoint: str | None = None, overrides: dict[str, Any] | None = None
) -> tuple[dict[str, float], list[Path]]:
    """Metrics of one split, and the files that now hold them: what `measure` gives, without the classes."""
    result = measure(path, split, checkpoint, overrides)
    return result.metrics, result.files


def measure(
    path: str | Path, split: str = "test", checkpoint: str | None = None, overrides: dict[str, Any] | None = None
) -> Evaluation:
    """One pass over a split. Beside the run's own metrics: `acc_low` and `acc_high`, the accuracy's 95 % interval.

    Raises:
        UserError: as `load_run`, and a dataset that is not there.
    """
    from dl_zoo import trained

    known = trained.facts(path, checkpoint)  # before Lightning is imported
    import torch

    from dl_zoo.callbacks import by_class
    from dl_zoo.callbacks.predictions import Predictions
    from dl_zoo.callbacks.progress import Progress
    from dl_zoo.folder import write_json, write_text
    from dl_zoo.run import build_trainer, lightning_kept_quiet

    run = trained.load(path, checkpoint, overrides)
    run.data.prepare_data()
    run.data.setup("test")
    _check_classes(known.get("classes"), getattr(run.data, "classes", None))
    trainer = {**run.config.trainer, "devices": 1, "strategy": "auto", "profiler": None}
    if trainer["accelerator"] in ("cuda", "gpu") and not torch.cuda.is_available():
        trainer["accelerator"] = "auto"
    run.config.trainer = trainer
    predictions = Predictions()
    runner = build_trainer(run.config, Path("."), callbacks=[Progress(), predictions], logger=False)
    run.data.trainer, runner.datamodule = runner, run.data  # type: ignore[attr-defined]  # which the task may ask
    for name in ("sources", "references"):  # of translations; a task asks for those of its test
        if hasattr(run.data, name):
            setattr(run.data, name, partial(_always, getattr(run.data, name)(split)))
    if hasattr(run.task, "generate"):  # beside whose pictures its samples are measured
        run.data.splits["test"] = run.data.splits[split]
    with lightning_kept_quiet():
        runner.test(run.task, dataloaders=run.data.loader(split), verbose=False)
    metrics = {key.replace("test/", f"{split}/"): float(value) for key, value in runner.callback_metrics.items()}
    classes = _by_class(predictions, getattr(run.data, "classes", None))
    if classes and f"{split}/acc" in metrics:
        items = sum(each.items for each in classes)
        right = round(metrics[f"{split}/acc"] * items)
        metrics[f"{split}/acc_low"], metrics[f"{split}/acc_high"] = by_class.wilson(right, items)
    metrics |= {"epoch": float(run.epoch), "step": float(run.step)}

    folder = run.path.parent.parent if run.path.parent.name == "checkpoints" else run.path.parent
    if trained.is_shipped(path):  # its folder is the zoo's
        return Evaluation(metrics, [], classes)
    files = [folder / f"{name}-{split}.{kind}" for name, kind in WRITTEN]
    try:
        write_json(files[0], metrics)
        if classes:
            write_text(files[1], predictions.as_csv())
            write_text(files[2], by_class.as_csv(classes))
    except OSError as error:
        raise UserError(f"{json.dumps(metrics)}; but {folder} cannot be written: {error.strerror}") from error
    return Evaluation(metrics, files if classes else files[:1], classes)


def _always(lines: list[str], split: str) -> list[str]:
    return lines


def _by_class(predictions: "Predictions", names: Any) -> "list[OfClass]":
    """What is measured of each class; nothing where what was predicted are no classes."""
    from dl_zoo.callbacks.by_class import by_class

    targets, answers = predictions.table()[:, :2].long().unbind(1)
    names = [str(name) for name in names or ()]
    names = names if len(names) == predictions.classes else [*map(str, range(predictions.classes))]
    return by_class(targets, answers, names) if predictions.classes else []


def _words(result: Evaluation) -> str:
    from dl_zoo.callbacks.by_class import as_table

    lines = []
    for name, value in result.metrics.items():
        low, high = result.metrics.get(f"{name}_low"), result.metrics.get(f"{name}_high")
        interval = "" if low is None or high is None else f"  95 % interval {low:.4f} to {high:.4f}"
        if not name.endswith(("_low", "_high")):
            lines.append(f"{name:<12} {value:.6g}{interval}")
    lines += ["", as_table(result.classes), ""] if result.classes else []
    lines += [f"written      {', '.join(map(str, result.files))}"] if result.files else []
    return "\n".join(lines)


def _check_classes(known: Any, here: Any) -> None:
    """The net answers in numbers: with other names behind them every number printed would be wrong."""
    if known and here and list(known) != list(here):
        differing = [pair for pair in zip_longest(known, here) if pair[0] != pair[1]]
        raise UserError(
            f"the run tells {len(known)} classes apart and these data have {len(here)}; the first that differs is"
            f" {differing[0][0]} there and {differing[0][1]} here"
        )


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{text!r} is not of the form key=value")
    return key, yaml.safe_load(value)
