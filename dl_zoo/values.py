"""What can be wrong with values that compose, told with the key that was typed. No torch."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from dl_zoo.options import names, read

FORBIDDEN_IN_NAMES = set("=,:(){}[] /\\")
BOUNDS: dict[str, tuple[type, float]] = {  # of what may be wrong before anything is built: its kind, its least value
    "data.batch_size": (int, 1),
    "seed": (int, 0),
    "trainer.max_epochs": (int, -1),
    "trainer.max_steps": (int, -1),
    "trainer.accumulate_grad_batches": (int, 1),
    "trainer.limit_train_batches": (float, 0),
    "checkpoint_every": (float, 0),
    "optimizer.lr": (float, 0),
}
EMBEDDING = ("contrastive", "triplet")  # values of task.loss
KINDS_CHECKED = ("task", "data", "model", "optimizer", "scheduler", "initializer")


def not_the_datas(plain: Mapping[str, Any], choices: Mapping[str, str]) -> Iterator[str]:
    """What was typed and does not fit the data: `model.channels=3` where pictures have one, views without a mean."""
    loss, views = plain["task"].get("loss"), plain["data"].get("views", 1)
    if views != 1 and loss in EMBEDDING:
        yield f"data.views={views}: task.loss={loss} compares items and has no mean over views; set data.views=1"
    asked = read("model", choices["model"]) if choices["model"] in names("model") else {}
    for key, stated in asked.items():
        dim = re.fullmatch(r"\$\{(?:oc\.select:)?dims\.(\w+)(?:,null)?\}", str(stated))
        value, fact = plain["model"].get(key), plain["data"]["dims"].get(dim[1]) if dim else None
        if not isinstance(fact, int) or not isinstance(value, int) or value == fact:
            continue
        if key != "num_classes" or (value < fact and loss not in EMBEDDING):
            yield f"model.{key}={value}: data={choices['data']} has {fact}; leave it out"


OF_LOSSES = {  # optimizers that ask for the loss several times a step, by what they are made of
    "torch.optim.LBFGS": "lbfgs",
    "dl_zoo.from_scratch.weight_perturbation.WeightPerturbation": "weight_perturbation",
}


def out_of_bounds(cfg: DictConfig) -> Iterator[str]:
    """Numbers too small, switches that are none, names that no folder can have."""
    for path, (kind, least) in BOUNDS.items():
        value = OmegaConf.select(cfg, path, default=least)  # a Trainer of the user's own may lack it
        if path == "trainer.limit_train_batches" and value is None:
            continue
        number = isinstance(value, kind | int) and not isinstance(value, bool)
        if not (number and value >= least):
            what = "a whole number" if kind is int else "a number"
            yield f"{path}={typed(value)}: must be {what} of at least {least}"
    for path in ("trainer.max_steps", "trainer.limit_train_batches"):
        if OmegaConf.select(cfg, path) == 0:
            yield f"{path}=0: trains nothing; trainer.max_epochs=0 measures the net as it is built"
    if isinstance(cfg.seed, int) and cfg.seed >= 2**32:
        yield f"seed={cfg.seed}: must be below 2^32"
    yield from _of_losses(cfg, of_losses := OF_LOSSES.get(cfg.optimizer._target_))
    yield from _of_two_nets(cfg, of_losses)
    endless = all(OmegaConf.select(cfg, f"trainer.{key}") in (None, -1) for key in ("max_epochs", "max_steps"))
    if endless and needs_length(cfg):
        what = "regularizer=swa" if "swa" in cfg.regularizer else "the scheduler"
        yield f"trainer.max_epochs=-1: {what} needs the length of the run; set trainer.max_epochs"
    for path in ("diagnostics", "pictures", "trainer.channels_last"):
        if not isinstance(OmegaConf.select(cfg, path, default=False), bool):
            yield f"{path}={OmegaConf.select(cfg, path)}: must be true or false"
    if not isinstance(cfg.freeze, ListConfig):
        yield f"freeze={typed(cfg.freeze)}: must be a list, such as freeze=[{cfg.freeze or ''}]"
    wrong = sorted(FORBIDDEN_IN_NAMES & set(cfg.name)) or [dots for dots in (".", "..") if cfg.name == dots]
    if wrong:
        yield f"name={cfg.name!r}: leave out {' '.join(map(repr, wrong))}; it becomes a folder's name"


def _of_losses(cfg: DictConfig, of_losses: str | None) -> Iterator[str]:
    """What an optimizer that asks for the loss several times a step cannot be put beside."""
    if of_losses and cfg.trainer.get("accumulate_grad_batches", 1) != 1:
        name = "L-BFGS" if of_losses == "lbfgs" else of_losses.replace("_", " ")
        yield f"trainer.accumulate_grad_batches: {name} takes whole batches; raise data.batch_size instead"
    if of_losses == "weight_perturbation" and OmegaConf.select(cfg, "trainer.gradient_clip_val", default=None):
        yield "trainer.gradient_clip_val: weight perturbation looks at no gradient; leave it out"


def _of_two_nets(cfg: DictConfig, of_losses: str | None) -> Iterator[str]:
    """What Lightning, or the game, knows for one optimizer only."""
    if cfg.task._target_ != "dl_zoo.tasks.gan.GAN":
        return
    if OmegaConf.select(cfg, "trainer.accumulate_grad_batches", default=1) != 1:
        yield "trainer.accumulate_grad_batches: task=gan steps two nets in turns at each batch; raise data.batch_size"
    if OmegaConf.select(cfg, "trainer.gradient_clip_val", default=None):
        yield "trainer.gradient_clip_val: task=gan clips no gradients; task.r1 or task.gradient_penalty bound slopes"
    strategy = OmegaConf.select(cfg, "trainer.strategy", default="auto")
    if str(strategy).startswith("ddp") and "find_unused" not in strategy:
        yield f"trainer.strategy={strategy}: a step of task=gan moves one net of two; ddp_find_unused_parameters_true"
    if of_losses:
        yield f"optimizer={of_losses}: task=gan asks for a new loss at each step; optimizer=adam"


def needs_length(cfg: DictConfig) -> bool:
    """Is a part of the run laid out over its length? Then it cannot be trained longer as if it had been meant to."""
    schedule = str((cfg.scheduler or {}).get("_target_", ""))
    return bool(schedule and not schedule.endswith(".plateau")) or "swa" in cfg.regularizer


def of_another_kind(cfg: DictConfig, choices: Mapping[str, str]) -> Iterator[str]:
    """Words where an option's YAML states a number or a switch. Lightning's own arguments are left to Lightning."""
    picked = [(group, group, name) for group, name in choices.items() if group in KINDS_CHECKED]
    picked += [(f"{group}.{name}", group, name) for group in ("regularizer", "probe") for name in cfg[group]]
    for path, group, name in picked:
        if name not in names(group):
            continue  # of a folder of the user's own
        stated = read(group, name).get(name, {}) if path != group else read(group, name)
        for key, usual in stated.items():
            if isinstance(usual, str):  # anything goes, and what stands for a dim may not be known yet
                continue
            value = OmegaConf.select(cfg, f"{path}.{key}")
            if f"{path}.{key}" not in BOUNDS and (kind := _missed_kind(usual, value)):
                yield f"{path}.{key}={typed(value)}: must be {kind}"


def _missed_kind(usual: Any, value: Any) -> str:
    """What a value should be to be like the usual one; nothing where it is, or where anything may be.

    >>> _missed_kind(0.5, "big"), _missed_kind(True, 1), _missed_kind([0.9, 0.999], 0.9), _missed_kind("relu", "tanh")
    ('a number', 'true or false', 'a list of numbers', '')
    """
    if isinstance(usual, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(usual, int | float):
        return "a number" if value is None or isinstance(value, str | bool) else ""
    if isinstance(usual, list) and usual and all(isinstance(each, int | float) for each in usual):
        fine = isinstance(value, list | ListConfig) and not any(isinstance(each, str | None) for each in value)
        return "" if fine else "a list of numbers"
    return ""


def typed(value: Any) -> str:
    """As one types it on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
