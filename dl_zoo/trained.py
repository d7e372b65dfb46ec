"""A trained net by any name that people give it, with what its checkpoint or card keeps of the data.

runs/lenet5-digits/<stamp>, or a checkpoint     one of your own
zoo:lenet5-mnist                                one that ships with the zoo, `<model>-<data>`
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_zoo import checkpoints, options, pretrained, trust
from dl_zoo.errors import UserError

if TYPE_CHECKING:
    from dl_zoo.zoo import Run


def is_shipped(path: str | Path) -> bool:
    return str(path).startswith("zoo:")


def facts(path: str | Path, checkpoint: str | None = None) -> dict[str, Any]:
    """dims, classes, normalisation and a name; read without Lightning, so that a wrong path is told soon.

    Raises:
        UserError: as `checkpoints.find` and `checkpoints.read`; nothing of this name ships.
    """
    if is_shipped(path):
        card = pretrained.card_of(str(path).partition(":")[2], "")
        return {"name": card["file"], **card}
    header: dict[str, Any] = checkpoints.read(checkpoints.find(path, checkpoint))["dl_zoo"]
    return {"name": str(header["config"].get("name")), **header}


def load(path: str | Path, checkpoint: str | None = None, overrides: Mapping[str, Any] | None = None) -> "Run":
    """As `zoo.load_run`, of what ships too."""
    from dl_zoo.zoo import load_run

    if is_shipped(path):
        return _shipped(str(path), overrides or {})
    return load_run(path, checkpoint, dict(overrides or {}))


def _shipped(name: str, overrides: Mapping[str, Any]) -> "Run":
    """Its data are as their YAML states them, but for the context and the vocabulary that the net was trained with."""
    from dl_zoo import compose
    from dl_zoo.run import build_task
    from dl_zoo.zoo import Run

    card = facts(name)
    data = card["file"].partition("-")[2]
    if data not in options.names("data"):
        raise UserError(
            f"{name}: its name ends in no dataset, {data!r}; {options.nearest(data, options.names('data'))}"
        )
    words = [f"model={card['model']}", f"data={data}"]
    if card.get("vocabulary") and "context" in options.read("data", data):
        words.append(f"data.context={card['dims']['context']}")
    config = compose.with_values(compose.compose(words), overrides)
    config.model.update(card["arguments"])
    config = compose.resolve(config, card["dims"])
    task = build_task(config, trust.build(config.model))
    checkpoints.load_weights(task.net, f"zoo:{card['file']}")
    path = pretrained.WEIGHTS / f"{card['file']}.safetensors"
    data = trust.build(config.data)
    if card.get("vocabulary") and getattr(data, "takes_vocabulary", False):
        data.vocabulary = card["vocabulary"]
    return Run(task.net, task, data, config, path, card.get("epoch", 0), card.get("step", 0))
