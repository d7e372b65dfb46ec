"""Weights that can be had by name: those that ship with the zoo, and torchvision's official ones.

    zoo                     the one file that ships for the model: weights/<model>-<data>.safetensors, with a .json card
    zoo:<file>              that file
    torchvision             torchvision's first official weights for this net, which later releases do not change
    torchvision:V2          IMAGENET1K_V2; DEFAULT is what torchvision now thinks best
    torchvision:<model>:V2  the same where the model is not known, as in `checkpoints.load_weights`

Addresses and digests are torchvision's own. Files lie where torchvision puts them (torch.hub's cache, `TORCH_HOME`), so
what it has downloaded is found, and so is what a person put there.
"""

import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from dl_zoo import options
from dl_zoo.data.download import CONNECT, TRIES, sha256, watched
from dl_zoo.errors import UserError

_PACKAGE = Path(__file__).parent
WEIGHTS = _PACKAGE / "weights" if (_PACKAGE / "weights").is_dir() else _PACKAGE.parent / "weights"  # wheel, or clone
SOURCES = ("zoo", "torchvision")
FIRST = "IMAGENET1K_V1"
OTHER_STRIDE = "model.stride_in={}: torchvision's weights are of a net with 3x3; leave it out"
VERSION = r"(IMAGENET1K_)?(V\d+|FEATURES)|DEFAULT|[A-Z0-9_]{4,}"


def is_named(source: Any) -> bool:
    """
    >>> [is_named(source) for source in ("zoo", "torchvision:V2", "runs/zoo")]
    [True, True, False]
    """
    return str(source).partition(":")[0] in SOURCES


def full_name(source: str, model: str) -> str:
    """`zoo:<file>` or `torchvision:<model>:<version>`: what a source means for a model. Reads cards only, no torch.

    >>> full_name("torchvision:resnet50:V2", "")
    'torchvision:resnet50:IMAGENET1K_V2'

    Raises:
        UserError: nothing of that kind ships for the model.
    """
    kind, *words = str(source).split(":")
    if kind == "zoo":
        return f"zoo:{card_of(words[0] if words else '', model)['file']}"
    version = next((word for word in words if re.fullmatch(VERSION, word)), FIRST)
    model = next((word for word in words if not re.fullmatch(VERSION, word)), model)
    if model not in (have := officially()):
        raise UserError(
            f"weights={source}: torchvision has none for {model or 'no model'}; it has for {', '.join(have)}"
        )
    return f"torchvision:{model}:{re.sub(r'^(?=V[0-9]|FEATURES)', 'IMAGENET1K_', version)}"


def path_of(source: str) -> Path:
    """The file of a full name, downloaded where it is torchvision's and absent. UserError where it cannot be had."""
    kind, name, *version = full_name(source, "").split(":")
    return _shipped(name) if kind == "zoo" else _official(name, version[0])


# ---- the zoo's own --------------------------------------------------------------------------------------------------


def cards() -> dict[str, dict[str, Any]]:
    """File name without suffix -> its card: model, arguments, dims, classes, normalisation, metrics, sha256, ..."""
    found = {}
    for path in sorted(WEIGHTS.glob("*.json")):
        found[path.stem] = {**json.loads(path.read_text(encoding="utf-8")), "file": path.stem}
    return found


def card_of(file: str, model: str) -> dict[str, Any]:
    """The card of a file, or with no file of the model's only one. UserError, with what is there."""
    every = cards()
    fitting = (
        [file.removesuffix(".safetensors")] if file else [n for n, card in every.items() if card["model"] == model]
    )
    if len(fitting) == 1 and fitting[0] in every:
        return every[fitting[0]]
    there = ", ".join(f"zoo:{name}" for name in (every if len(fitting) < 2 else fitting)) or "none"
    what = "several ship" if len(fitting) > 1 else "none ship"
    official = "; weights=torchvision has official ones" if model in officially() else ""
    raise UserError(
        f"weights={f'zoo:{file}' if file else 'zoo'}: {what} for {model or 'this model'}; there are {there}{official}"
    )


def officially() -> list[str]:
    """The models for which torchvision has weights."""
    return [name for name in options.names("model") if _named_there(name)]


def _named_there(model: str) -> str:
    """torchvision's name of a model whose card says `weights: torchvision` or `torchvision:<its name>`, else ''."""
    source, _, name = str(options.card(model).get("weights", "")).partition(":")
    return (name or model.removesuffix("_tv")) if source == "torchvision" else ""


def _shipped(name: str) -> Path:
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(f"{path} is missing beside its card; install the zoo anew")
    if sha256(path) != cards()[name]["sha256"]:
        raise UserError(f"{path} is damaged (its SHA-256 is not the one on its card); install the zoo anew")
    return path


# ---- torchvision's --------------------------------------------------------------------------------------------------


def _official(model: str, version: str) -> Path:
    import torch
    from torchvision.models import get_model_weights

    every: Mapping[str, Any] = get_model_weights(_named_there(model)).__members__
    if version not in every:
        raise UserError(f"weights=torchvision:{version}: {model} has {', '.join(every)}")
    url = every[version].url
    name = url.rpartition("/")[2]
    digest = re.search(r"-([0-9a-f]{8,})\.", name)
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        try:
            _download(url, path, digest.group(1) if digest else "")
        except OSError as error:
            raise UserError(
                f"weights=torchvision: expected {path}, and the download of {url} failed ({error});"
                " put the file there by hand, or start from a checkpoint of your own with weights=PATH"
            ) from error
    elif digest and not sha256(path).startswith(digest.group(1)):
        raise UserError(f"{path} is damaged (its SHA-256 is not the one in its name): delete it to download it again")
    return path


def _download(url: str, target: Path, digest: str) -> None:
    """OSError, of one line, within 15 s where there is no network. The target is whole and checked, or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.download")
    failures: list[str] = []
    with FileLock(target.with_name(f".{target.name}.lock")):
        for _ in range(TRIES):
            if target.is_file():  # another process had the lock before and got it
                return
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            try:
                came = watched(partial(_fetch, url, scratch / target.name), scratch)
                if not sha256(came).startswith(digest):
                    raise OSError("what came has another SHA-256 than its name says")
                came.replace(target)
            except OSError as error:
                failures.append(f"{urlsplit(url).hostname}: {' '.join(str(error).split())}")
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    if not target.is_file():
        raise OSError("; ".join(dict.fromkeys(failures)))


def _fetch(url: str, to: Path) -> Path:
    try:
        answer = urllib.request.urlopen(url, timeout=CONNECT)
    except urllib.error.HTTPError as error:
        error.close()  # it is an open answer, too
        raise OSError(str(error)) from None
    with answer, to.open("wb") as file:
        shutil.copyfileobj(answer, file, 1 << 20)
        promised = int(answer.headers.get("Content-Length") or file.tell())
        if file.tell() != promised:
            raise OSError(f"only {file.tell():,} of {promised:,} bytes came")
    return to
