"""Made pictures beside real ones: what is added, to which split, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dl_zoo import dataset
from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.regularizers.synthetic import Synthetic
from dl_zoo.run import run

FEW = [
    "data=digits",
    "data.train_items=50",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "pictures=false",
    "diagnostics=false",
]
CLASSIFIER = ["model=mlp", "model.width=8", *FEW]


class Watched:
    """A trainer as the callback sees it."""

    def __init__(self, data: Any):
        self.datamodule = data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two tiny generators, one that is told the class and one that is not."""
    folders = {}
    for name, conditional in (("told", "true"), ("untold", "false")):
        where = str(tmp_path_factory.mktemp("made") / name)
        words = ["model=vae", "model.width=8", "model.latents=2", f"model.conditional={conditional}", *FEW]
        folders[name] = str(run(compose([*words, f"run_dir={where}"]), quiet=True).folder)
    return folders


def data(*words: str) -> Any:
    return dataset.ready(compose(["model=mlp", "trainer=cpu", *(words or FEW)]))


def test_each_class_gets_as_many_and_evaluation_none(made: dict[str, str]) -> None:
    digits = data()
    before = {name: (inputs.clone(), targets.clone()) for name, (inputs, targets) in digits.splits.items()}
    state = torch.get_rng_state()
    callback = Synthetic(made["told"], per_class=3)
    callback.setup(Watched(digits), None, "fit")
    assert torch.equal(torch.get_rng_state(), state)
    inputs, targets = digits.splits["train"]
    assert inputs.shape == (80, 1, 8, 8)
    assert inputs.dtype == torch.uint8
    assert torch.equal(inputs[:50], before["train"][0])
    assert targets[50:].tolist() == [digit for digit in range(10) for _ in range(3)]
    assert targets.dtype == before["train"][1].dtype
    assert digits.sizes["train"] == 80
    for name in ("val", "test"):
        assert torch.equal(digits.splits[name][0], before[name][0])
    callback.setup(Watched(digits), None, "fit")  # Lightning asks again where a run goes on
    assert len(digits.splits["train"][0]) == 80


def test_they_are_a_function_of_the_seed_and_the_classes_of_the_names(made: dict[str, str]) -> None:
    some = ["3", "1"]
    pictures, classes = Synthetic(made["told"], per_class=2).made(some)
    assert classes.tolist() == [0, 0, 1, 1]
    assert torch.equal(pictures, Synthetic(made["told"], per_class=2).made(some)[0])
    assert not torch.equal(pictures, Synthetic(made["told"], per_class=2, seed=1).made(some)[0])
    swapped = Synthetic(made["told"], per_class=2).made(["1", "3"])[0]  # the same noise, told other classes
    assert not torch.equal(pictures, swapped)


def test_pictures_are_brought_to_the_size_of_the_data(made: dict[str, str]) -> None:
    digits = data(*FEW, "data.image_size=16")
    Synthetic(made["told"], per_class=1).setup(Watched(digits), None, "fit")
    assert digits.splits["train"][0].shape == (60, 1, 16, 16)


@pytest.mark.parametrize(
    ("source", "words", "said"),
    [
        ("untold", [], "makes no pictures of a class that is asked for; a VAE that was trained with model.conditional"),
        ("zoo:lenet5-mnist", [], "makes no pictures of a class that is asked for"),
        ("told", ["data=two_spirals"], "is for pictures that are held in memory"),
        ("told", ["data=shapes"], r"knows no class '\w+'; there are 0, 1, 2"),
    ],
)
def test_what_is_refused(made: dict[str, str], source: str, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Synthetic(made.get(source, source)).setup(Watched(data(*words)), None, "fit")


def test_a_wrong_number_of_channels_is_refused(made: dict[str, str]) -> None:
    digits = data()
    digits.splits["train"] = digits.splits["train"][0].expand(-1, 3, -1, -1), digits.splits["train"][1]
    with pytest.raises(UserError, match="makes 1 channel"):
        Synthetic(made["told"]).setup(Watched(digits), None, "fit")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": None}, r"regularizer\.synthetic\.source=null: name the run"),
        ({"source": "x", "per_class": 0}, r"regularizer\.synthetic\.per_class=0: must be a whole number of at least 1"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Synthetic(**settings)


def test_a_run_trains_on_both_and_goes_on_exactly(made: dict[str, str], tmp_path: Path) -> None:
    words = [
        *CLASSIFIER,
        "regularizer=[synthetic]",
        f"regularizer.synthetic.source={made['told']}",
        "trainer.max_epochs=2",
    ]
    whole = run(compose([*words, f"run_dir={tmp_path / 'whole'}"]), quiet=True)
    assert whole.metrics["step"] == 2 * -(-1050 // 32)
    once = compose([*words, "trainer.max_epochs=1", f"run_dir={tmp_path / 'halves'}"])
    run(once, quiet=True)
    rest = run(compose([*words, f"run_dir={tmp_path / 'halves'}", "resume=auto"]), quiet=True)
    assert rest.metrics["test/loss"] == whole.metrics["test/loss"]
