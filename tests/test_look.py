"""What notebooks look at, and the gallery of pictures that runs drew."""

import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dl_zoo import look
from dl_zoo.claims import card
from dl_zoo.errors import UserError
from dl_zoo.options import names
from dl_zoo.run import Result

ROOT = Path(__file__).parent.parent


def pixels(shown: look.Picture) -> Image.Image:
    picture = Image.open(io.BytesIO(shown._repr_png_()))
    assert len(picture.convert("L").getcolors(256)) > 4, "it is empty"
    return picture


def test_curves_and_pictures_of_a_run(finished: Result) -> None:
    one, two = (pixels(look.curves({"lenet": finished}, *tags)) for tags in (["val/acc"], ["train/loss", "val/acc"]))
    assert two.width > 1.3 * one.width, "a panel a tag"
    assert look.curves({"lenet": finished.folder}, "val/acc") == look.curves({"lenet": finished}, "val/acc")
    pixels(look.picture(finished, "filters/c1"))


def test_what_a_run_did_not_write_is_told_with_what_it_did(finished: Result) -> None:
    with pytest.raises(UserError, match=r"val/acx: .*val/acc"):
        look.curves({"lenet": finished}, "val/acx")
    with pytest.raises(UserError, match=r"filters/c9: .*filters/c1"):
        look.picture(finished, "filters/c9")
    with pytest.raises(UserError, match=r"probe/gradient/\*: "):
        look.profile({"lenet": finished}, "probe/gradient/*")


def test_the_map_of_a_net_has_a_colour_a_class() -> None:
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    net = torch.nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]])), net.bias.zero_()
    picture = pixels(look.map_of_classes(net, points, torch.tensor([0, 1]))).convert("RGB")
    (left, right) = (picture.getpixel((int(share * picture.width), picture.height // 4)) for share in (0.25, 0.75))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert left[2] > left[0], "blue where the first class is answered"
    assert right[0] > right[2], "red where the second is"


def test_verdicts_are_those_of_a_part_or_of_names() -> None:
    rows = look.verdicts("1.5").splitlines()[2:]
    part = [id for id in card.ids() if re.match(r"1\.5(\.|$)", card.stated(id)["article"])]
    assert part
    assert [re.search(r"`(\w+)`", row)[1] for row in rows] == part  # type: ignore[index]
    assert [row.count("c08_xavier") for row in look.verdicts("c08_xavier*").splitlines()[2:]] == [1]
    assert look.verdicts("1.5")._repr_markdown_() == "\n".join(look.verdicts("1.5").splitlines())
    with pytest.raises(UserError, match=r"9\.9: no claim is of this part or name"):
        look.verdicts("9.9")


@pytest.fixture(scope="module")
def gallery() -> Any:
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "benchmarks" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gallery_shows_what_its_commands_draw(gallery: Any) -> None:
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == gallery.page()
    drawn = {name for pictures in gallery.RUNS.values() for name in pictures}
    files = list((ROOT / "docs" / "gallery").iterdir())
    assert {file.stem for file in files} == drawn
    assert all(file.stat().st_size < 150_000 for file in files)
    assert {word.removeprefix("model=") for words in gallery.RUNS for word in words.split() if "model=" in word} <= set(
        names("model")
    )
