"""The data of a run, and what a checkpoint keeps of the data that its net was trained on.

Where a net goes on from other weights, its tokens must mean the words that they meant there. Whether another run's
vocabulary can be taken over is the data's to say (`takes_vocabulary`): a text's can; where an id is a symbol of its
own, as in generated sequences, none can.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dl_zoo import trained, trust
from dl_zoo.errors import UserError


def ready(cfg: DictConfig, checkpoint: Path | None = None) -> Any:
    """The data, read; with the vocabulary of the checkpoint to be resumed, or of `weights=`."""
    data = built(cfg, checkpoint or cfg.weights)
    rank_zero_only(data.prepare_data)()
    data.setup("fit")
    return data


def pretended(cfg: DictConfig, source: str | Path | None) -> Any:
    """Random data of the true shape, a batch a split, with the same vocabulary; nothing is downloaded."""
    data = built(cfg, source)
    batch = int(cfg.data.batch_size)
    data.pretend(min(batch, data.sizes.get("train", batch)))
    data.prepare_data = _nothing
    return data


def built(cfg: DictConfig, source: str | Path | None) -> Any:
    """The data, not yet read; `source` is what the net goes on from."""
    data = trust.build(cfg.data)
    if source and getattr(data, "takes_vocabulary", False):
        data.vocabulary = known(source).get("vocabulary")
    return data


def _nothing() -> None:
    pass


# ---- what a checkpoint keeps ---------------------------------------------------------------------------------------


def facts(data: Any) -> dict[str, Any]:
    """What a checkpoint must know of its dataset to be used without it."""
    return {
        "dims": dict(data.dims),
        "classes": list(data.classes) if getattr(data, "classes", None) else None,
        "normalisation": getattr(data, "normalisation", None),
        "vocabulary": getattr(data, "vocabulary", None),
    }


def known(source: str | Path) -> dict[str, Any]:
    """dims, classes, normalisation, vocabulary of the data that these weights were trained on; of a stranger's, {}."""
    with suppress(UserError):
        return trained.facts(source)
    return {}


def other_pictures(weights: str, data: Any) -> Iterator[str]:
    """A line where these weights are known to have seen pictures of another size or normalisation."""
    seen = known(weights)
    size, here = (facts.get("dims", {}).get("image_size") for facts in (seen, {"dims": data.dims}))
    if size and here and size != here:
        yield f"these weights know pictures of {size} pixels, and yours have {here}; data.image_size={size} gives such"
    theirs, shown = seen.get("normalisation"), getattr(data, "normalisation", None)
    if size and theirs and shown and theirs != shown:  # of numbers in a table each has its own
        words = " ".join(f"data.{key}=[{','.join(map(str, theirs[key]))}]" for key in ("mean", "std"))
        yield f"these weights know pictures of another normalisation; {words} gives it"
