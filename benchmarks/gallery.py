"""The pictures of docs/gallery.md, each from a run that anyone can repeat: python benchmarks/gallery.py

What a run drew under a tag becomes docs/gallery/<name>.png. Three minutes on one core, all on data that ship or are
generated.
"""

import argparse
import io
import os
import tempfile
from pathlib import Path

from PIL import Image

from dl_zoo import look
from dl_zoo.compose import compose
from dl_zoo.run import run

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "gallery"
COLOURS, WIDTH = 64, 720  # what a page needs, a tenth of the bytes
RUNS: dict[str, dict[str, tuple[str, str]]] = {  # words -> picture: its tag, and what it shows
    "experiment=lenet5_digits": {
        "activations": ("activations/c3", "What LeNet-5's second convolution answers to one digit."),
        "gradcam": ("samples/test_gradcam", "Where LeNet-5 looked when it was wrong (Grad-CAM)."),
        "confusion": ("confusion/test", "Who is taken for whom, on the test scans."),
    },
    "experiment=vae_digits": {
        "reconstructions": ("reconstructions/test", "Digits, and below each what ten numbers keep of it, by a VAE."),
        "interpolation": ("samples/interpolation", "Walks between digits in the VAE's latent space."),
    },
    "experiment=gan_ring task.loss=minimax": {
        "gan_ring": (
            "samples/points",
            "A minimax game on eight Gaussians: what lies between them should not be there.",
        ),
    },
    "experiment=ddpm_ring": {
        "ddpm_ring": ("samples/chain", "Diffusion on the same ring: noise is taken away step by step."),
    },
    "experiment=transformer_reverse": {
        "reverse": ("attention/decoder.0.cross", "A Transformer that writes backwards reads backwards."),
    },
    "experiment=adding model=lstm": {
        "gates": ("activations/gates", "An LSTM's gates over fifty steps, as it learns which two numbers to add."),
    },
    "model=forecaster_gru": {
        "forecasts": ("samples/test_forecasts", "Forecasts of series it never saw."),
    },
    "model=audio_cnn trainer.max_epochs=3": {
        "spectrograms": ("samples/spectrograms", "Sounds as the net sees them."),
    },
}


def draw(words: str, pictures: dict[str, tuple[str, str]]) -> None:
    result = run(compose([*words.split(), "pictures=true"]), quiet=True)
    for name, (tag, _) in pictures.items():
        save(look.picture(result, tag).png, FOLDER / f"{name}.png")


def save(png: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((WIDTH, picture.height))
    picture.quantize(COLOURS).save(path, optimize=True)


def page() -> str:
    """docs/gallery.md, whole."""
    parts = [
        "# Gallery",
        "Each picture is what a run drew for TensorBoard; the command above it makes it again, on data that ship or\n"
        "are generated. Written by `python benchmarks/gallery.py`.",
    ]
    for words, pictures in RUNS.items():
        parts.append(f"```bash\ndl-zoo train {words}\n```")
        parts += [f"![{text}](gallery/{name}.png)\n\n{text}" for name, (_, text) in pictures.items()]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="pictures to draw again; default: all")
    only = parser.parse_args().only
    os.chdir(tempfile.mkdtemp())
    for words, pictures in RUNS.items():
        if not only or set(only) & set(pictures):
            draw(words, pictures)
    (ROOT / "docs" / "gallery.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
