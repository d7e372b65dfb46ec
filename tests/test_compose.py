"""What the command line accepts, what it says otherwise, and how quickly."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from math import inf
from pathlib import Path

import pytest
from conftest import Said, net_for, one_line
from omegaconf import OmegaConf

from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.options import CONFIGS, names
from dl_zoo.refusals import refusal


def test_other_wrong_uses(cli: Callable[..., Said]) -> None:
    assert "did you mean train" in one_line(cli("trian"))
    assert "--frobnicate" in one_line(cli("train", "--frobnicate"))
    assert "no such folder" in one_line(cli("train", "--config-dir", "nowhere"))
    assert "did you mean lenet5" in one_line(cli("train", "-m", "model=mlp,lenet55"))
    assert "did you mean" in one_line(cli("models", "lenet55"))
    assert "invalid choice" in one_line(cli("evaluate", "x", "--split", "tset"))


def test_a_regularizer_that_the_net_has_no_place_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"regularizer=dropout sets model\.dropout, but model lenet5_1998"):
        compose(["model=lenet5_1998", "regularizer=dropout"])


def test_regularizers_combine_and_land_where_they_point() -> None:
    cfg = compose(["regularizer=[dropout,l2,shift]", "regularizer.dropout.rate=0.3", "regularizer.l2.strength=0.01"])
    assert cfg.model.dropout == 0.3
    assert cfg.regularizer.l2.strength == 0.01
    assert cfg.data.augment.shift._target_ == "dl_zoo.regularizers.shift.shift"
    assert not compose(["regularizer=none"]).regularizer


def test_the_experiment_comes_last_and_the_command_line_wins() -> None:
    cfg = compose(["experiment=lenet5_mnist"])
    assert (cfg.name, cfg.data.batch_size) == ("lenet5-mnist", 128)
    assert compose(["experiment=lenet5_mnist", "data.batch_size=64"]).data.batch_size == 64


def test_model_and_data_agree_on_the_size_of_pictures() -> None:
    assert compose(["model=lenet5"]).data.dims.image_size == 32
    mlp = compose(["model=mlp", "data=mnist"])
    assert (mlp.data.image_size, mlp.data.dims.features) == (None, 784)
    assert compose(["model=mlp", "data.image_size=16"]).data.dims.features == 256


def test_every_option_of_every_group_composes() -> None:
    """As many in one command as go together: the n-th of each group. Of models test_models.py composes each."""
    for name in [*names("experiment"), *names("debug")]:
        compose([f"{'experiment' if name in names('experiment') else 'debug'}={name}"])
    groups = ("data", "optimizer", "scheduler", "initializer", "regularizer", "trainer", "logger")
    columns = {group: [name for name in names(group) if name != "none"] for group in groups}
    compose(["scheduler=none", "regularizer=none", "logger=none"])
    for number in range(max(map(len, columns.values()))):
        row = [f"{group}={options[number % len(options)]}" for group, options in columns.items()]
        net = net_for(row[0].partition("=")[2])
        refused = net != ["model=mlp"] or any(refusal(pair) for pair in combinations(row, 2))
        for words in [[word] for word in row] if refused else [row]:
            compose([*(net if words == row[:1] else ["model=mlp"]), *words])
    for group in ("scheduler", "regularizer", "logger", "debug", "experiment"):
        assert (CONFIGS / group / "none.yaml").is_file()


def test_cfg_job_prints_what_would_run(cli: Callable[..., Said]) -> None:
    said = cli("train", "--cfg", "job", "model=mlp")
    assert said.code == 0
    assert OmegaConf.create(said.out).model._target_ == "dl_zoo.models.mlp.MLP"
    assert "card" not in OmegaConf.create(said.out).model


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["train", "--cfg", "job"], 0), (["train", "--help"], 0), (["--help"], 0), (["train", "optimizr.lr=1"], 2)],
)
def test_answers_that_need_no_torch_come_within_a_second(arguments: list[str], code: int, tmp_path: Path) -> None:
    program = (
        f"import json, os, sys; sys.argv = ['dl-zoo', *{arguments!r}]\n"
        "from dl_zoo.__main__ import main\n"
        "got = 0\n"
        "try: main()\n"
        "except SystemExit as stop: got = stop.code or 0\n"
        "print(json.dumps([got, 'torch' in sys.modules, sum(os.times()[:2])]))"
    )
    fastest = inf
    for _ in range(3):  # processor time, and the best of three: a busy machine is not to fail this
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
        got, imported_torch, seconds = json.loads(said.stdout.splitlines()[-1])
        assert got == code
        assert not imported_torch
        fastest = min(fastest, seconds)
    assert fastest < 1


def test_the_parts_meet_in_yaml_only() -> None:
    """models, tasks, data, callbacks, regularizers, probes, initializers and claims never import one another."""
    package = CONFIGS.parent / "dl_zoo"
    parts = ["models", "from_scratch", "data", "tasks", "callbacks", "regularizers", "probes", "initializers", "claims"]
    for path in package.rglob("*.py"):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        if part not in (*parts, "measures"):  # which imports none of them either, and which each may
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                head = name.split(".")
                if head[0] == "dl_zoo" and len(head) > 1 and head[1] in parts:
                    assert head[1] == part, f"{path} imports {name}"
                    assert part != "models" or path.stem != "lenet5", "a model builds on no other here"


def test_importing_the_package_is_lazy() -> None:
    code = "import sys, dl_zoo; print('torch' in sys.modules, 'create_model' in dir(dl_zoo))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False True\n"
    )


def test_an_experiments_regularizers_can_be_replaced() -> None:
    """What it states of the ones that are no longer picked goes with them."""
    assert [*compose(["experiment=resnet20_cifar10_jpg"]).regularizer] == ["crop_flip", "weight_decay"]
    assert [*compose(["experiment=resnet20_cifar10_jpg", "regularizer=[flip]"]).regularizer] == ["flip"]
    assert not compose(["experiment=resnet20_cifar10_jpg", "regularizer=[]"]).regularizer
