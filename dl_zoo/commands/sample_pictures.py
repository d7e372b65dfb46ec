"""`dl-zoo sample` of a VAE, a GAN or a diffusion: pictures or points of a seed, as files and all in one picture."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import count as numbers
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_zoo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 8  # from one sample to another, both among them
ACROSS = 8  # in the picture of all
GRID = "grid.png"


def check_numbers(n: int, interpolate: bool) -> None:
    if n < 1:
        raise UserError(f"--n {n}: must be at least 1")
    if interpolate and n % STEPS:
        raise UserError(f"--n {n}: with --interpolate a multiple of {STEPS}, the steps of one way")


def require_generative(run: Any, path: str | Path) -> None:
    from dl_zoo.making import makes_things_up

    if not makes_things_up(run.task):
        raise UserError(
            f"{path}: its task makes nothing up; sample is for language models, and for task=vae, gan and diffusion"
        )


def answer(
    run: Any,
    path: str,
    facts: Mapping[str, Any],
    *,
    n: int,
    seed: int,
    out: Path | None,
    classes: str | None,
    interpolate: bool,
) -> int:
    """Writes the samples and says where. UserError: classes that the model does not know, and a folder in the way."""
    names = asked(path, facts, classes, run.task.conditional)
    words = [
        f"seed{seed}",
        *([f"class{plain('-'.join(names))}"] if classes else []),
        *(["interpolation"] if interpolate else []),
    ]
    where = new_folder(out) if out else numbered(folder_of(run, path) / "-".join(words))
    labels = [names[(i // STEPS if interpolate else i) % len(names)] for i in range(n)] if names else None
    made = drawn(run.task, n, seed, numbers_of(labels, facts), interpolate)
    if made.ndim == 4:
        across = len(names) if names and len(names) > 1 and not interpolate else ACROSS
        contents = files_of_pictures(made, labels, across if n <= ACROSS**2 else max(across, math.isqrt(n)))
    elif interpolate:
        raise UserError(f"--interpolate: is for pictures, and {path} makes up points; leave it out")
    else:
        contents = files_of_points(made, getattr(run.data, "modes", None))
    written = save(where, contents)
    print(f"written      {written}: {GRID} and {len(contents) - 1} file{'s' * (len(contents) > 2)}")
    return 0


def drawn(task: Any, n: int, seed: int, classes: "Tensor | None", interpolate: bool) -> "Tensor":
    """Samples (n, ...) on the CPU."""
    import torch

    from dl_zoo import making
    from dl_zoo.waiting import passes

    task = task.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
    try:
        with passes(task.net, "making", steps_of(task, n)):
            if not interpolate:
                return making.samples(task, n, classes, seed).cpu()
            noise = task.noise(2 * n // STEPS, torch.Generator().manual_seed(seed))
            return making.of_noise(task, making.between(noise[::2], noise[1::2], STEPS), classes).cpu()
    except FloatingPointError as error:
        raise UserError(f"{error}: this checkpoint is of a run that diverged; try --checkpoint previous") from error


def steps_of(task: Any, n: int) -> int | None:
    """How often a diffusion asks its net for n samples; None of the others, which ask once and are done."""
    from dl_zoo.making import AT_ONCE

    way = getattr(task, "way", None)
    return None if way is None else (len(way) - 1) * math.ceil(n / AT_ONCE)


# ---- classes -------------------------------------------------------------------------------------------------------


def asked(path: str, facts: Mapping[str, Any], classes: str | None, conditional: bool) -> list[str]:
    """The names of classes to make, in order; of a conditional model all, where none are named. Else none."""
    known = [str(name) for name in facts.get("classes") or range(facts["dims"].get("num_classes") or 0)]
    if classes is None:
        return known if conditional else []
    if not conditional:
        raise UserError(f"--classes {classes}: {path} was trained without classes; leave it out")
    names = [name.strip() for name in classes.split(",")]
    if strange := [name for name in names if name not in known]:
        shown = ", ".join(known[:20]) + (" ..." if len(known) > 20 else "")
        raise UserError(f"--classes {classes}: {path} knows no class {strange[0]!r}; there are {shown}")
    return names


def numbers_of(labels: Sequence[str] | None, facts: Mapping[str, Any]) -> "Tensor | None":
    """Class numbers (n,) of names."""
    import torch

    known = [str(name) for name in facts.get("classes") or range(facts["dims"].get("num_classes") or 0)]
    return None if labels is None else torch.tensor([known.index(label) for label in labels])


# ---- files ---------------------------------------------------------------------------------------------------------


def files_of_pictures(made: "Tensor", labels: Sequence[str] | None, across: int) -> dict[str, bytes]:
    """All of (n, C, H, W) in 0..1 in one picture, then one by one, named by their number and class."""
    from dl_zoo.callbacks.gallery import gallery

    pixels = (made.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    digits = max(3, len(str(len(made) - 1)))
    names = [f"{i:0{digits}}{f'-{plain(labels[i])}' if labels else ''}.png" for i in range(len(made))]
    return {GRID: png(gallery(made, across)), **{name: png(each) for name, each in zip(names, pixels, strict=True)}}


def files_of_points(made: "Tensor", modes: "Tensor | None") -> dict[str, bytes]:
    """Points (n, 2) drawn, and as CSV."""
    from dl_zoo.callbacks.figures import render
    from dl_zoo.callbacks.gallery import points_figure

    rows = "".join(",".join(f"{value:.6g}" for value in row) + "\n" for row in made.tolist())
    heads = "x,y" if made.shape[1] == 2 else ",".join(f"x{i}" for i in range(made.shape[1]))
    grid = png(render(points_figure(made, None, modes, f"{len(made):,} points")))
    return {GRID: grid, "points.csv": f"{heads}\n{rows}".encode()}


def png(pixels: Any) -> bytes:
    """Of (H, W, 1 or 3) uint8."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, format="png")
    return file.getvalue()


def plain(name: str) -> str:
    """A class as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in name)


def folder_of(run: Any, path: str) -> Path:
    """`samples` in the run's folder; of what ships, or of a checkpoint alone, where one stands, by its name."""
    from dl_zoo.trained import is_shipped

    if is_shipped(path):
        return Path("samples") / str(path).partition(":")[2].removesuffix(".safetensors")
    if run.path.parent.name == "checkpoints":
        return Path(run.path.parent.parent) / "samples"
    return Path("samples") / str(run.path.stem)


def new_folder(folder: Path) -> Path:
    """UserError where something is in it, which could be overwritten."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"--out {folder}: is there already, and nothing is overwritten; name another folder")
    return folder


def numbered(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, ... that is not there."""
    return next(
        each for i in numbers(1) if not (each := folder if i == 1 else folder.with_name(f"{folder.name}-{i}")).exists()
    )


def save(folder: Path, contents: Mapping[str, bytes]) -> Path:
    from dl_zoo.folder import write_bytes

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_bytes(folder / name, content)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; name another folder with --out") from error
    return folder
