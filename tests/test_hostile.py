"""A stranger's checkpoint or run folder is trusted for no code, and bad files are one line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Said, one_line

import dl_zoo.trust
from dl_zoo import checkpoints
from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.run import Result
from dl_zoo.trust import check_targets, shipped_targets


class Pickled:
    """Unpickling this would create the file `harmed`."""

    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


def with_config(finished: Result, change: Callable[[dict[str, Any]], Any], path: Path) -> Path:
    content = torch.load(finished.folder / "checkpoints" / "best.ckpt", weights_only=True)
    change(content["dl_zoo"]["config"])
    torch.save(content, path)
    return path


EVIL = {
    "os.system": {"_target_": "os.system", "command": "touch harmed"},
    "torch.hub.load": {"_target_": "torch.hub.load", "repo_or_dir": ".", "model": "x", "source": "local"},
    "torch.load": {"_target_": "torch.load", "f": "evil.pt", "weights_only": False},
    "collect_env": {"_target_": "torch.utils.collect_env.run", "command": "touch harmed"},
    "partial": {"_target_": "os.system", "_partial_": True, "command": "touch harmed"},
    "prefix of a shipped one": {"_target_": "dl_zoo.models.lenet5.LeNet5.__init__.__globals__"},
    "not a string": {"_target_": ["os.system"], "_args_": ["touch harmed"]},
    "hydra's own": {"_target_": "hydra.utils.get_method", "path": "os.system"},
}


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("place", ["model", "nested", "in a list"])
def test_code_that_no_shipped_yaml_names_is_refused_before_any_import(
    name: str, place: str, finished: Result, tmp_path: Path, cli: Callable[..., Said]
) -> None:
    def change(config: dict[str, Any]) -> None:
        if place == "model":
            config["model"] = EVIL[name]
        elif place == "nested":
            config["model"]["activation"] = EVIL[name]
        else:
            config["data"]["mean"] = [{"deeper": [EVIL[name]]}]

    path = with_config(finished, change, tmp_path / "evil.ckpt")
    assert "not trusted" in one_line(cli("evaluate", str(path)))
    assert not (tmp_path / "harmed").exists()


def test_trust_does_not_reach_what_a_module_merely_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_module.py").write_text("import torch\nfrom os import system\nclass Mine: pass\n")
    monkeypatch.setattr(dl_zoo.trust, "_trusted_modules", {"my_module"})
    monkeypatch.syspath_prepend(tmp_path)
    check_targets({"_target_": "my_module.Mine"}, "mine")
    for target in ("my_module.torch.utils.collect_env.run", "my_module.system", "my_module.torch.load", "my_modules.X"):
        with pytest.raises(UserError, match="not trusted"):
            check_targets({"_target_": target}, "theirs")


THEIRS = {
    "data/evil.yaml": "defaults: [digits, _self_]\n"
    "split: ${oc.create:{_target_:torch.utils.collect_env.run,command:'touch harmed'}}\n",
    "experiment/resolved.yaml": "# @package _global_\n"
    "hydra: {callbacks: {x: \"${oc.decode:'{_target_: torch.utils.collect_env.run, command: touch harmed}'}\"}}\n",
    "experiment/factory.yaml": "# @package _global_\n"
    "hydra: {hydra_logging: {formatters: {x: {'()': torch.utils.collect_env.run, command: touch harmed}}}}\n",
    "experiment/variable.yaml": "# @package _global_\nhydra: {job: {env_set: {LD_PRELOAD: harm.so}}}\n",
    "experiment/evil.yaml": "# @package _global_\n"
    "hydra: {callbacks: {x: {_target_: torch.utils.collect_env.run, command: touch harmed}}}\n",
}


@pytest.mark.parametrize("name", THEIRS)
def test_a_strangers_config_folder_runs_no_code(name: str, tmp_path: Path, cli: Callable[..., Said]) -> None:
    path = tmp_path / "theirs" / name
    path.parent.mkdir(parents=True)
    path.write_text(THEIRS[name])
    group, option = path.parent.name, path.stem
    for more in ([], ["-m", "seed=0"]):
        said = cli("train", *more, "--config-dir", "theirs", f"{group}={option}", "trainer=smoke", "pictures=false")
        assert said.code == 2, said
        assert "not trusted" in said.err or "changes the hydra section" in said.err
        assert not (tmp_path / "harmed").exists()


def test_interpolations_are_refused(finished: Result, tmp_path: Path, cli: Callable[..., Said]) -> None:
    def change(config: dict[str, Any]) -> None:
        config["model"]["activation"] = "${oc.env:HOME}"

    path = with_config(finished, change, tmp_path / "evil.ckpt")
    said = one_line(cli("evaluate", str(path)))
    assert "interpolation" in said
    assert os.environ["HOME"] not in said.replace(str(path), "")


@pytest.mark.parametrize("command", [("evaluate", "evil.ckpt"), ("train", "weights=evil.ckpt", "trainer=smoke")])
def test_a_pickled_object_is_refused_and_never_run(command: tuple[str, ...], tmp_path: Path, cli: Any) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "dl_zoo": Pickled()}, tmp_path / "evil.ckpt")
    said = cli(*command)
    assert said.code == 2
    assert "never loaded" in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert not (tmp_path / "harmed").exists()


def test_a_strangers_run_folder_is_trusted_no_more_than_a_checkpoint(
    finished: Result, tmp_path: Path, cli: Callable[..., Said]
) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(finished.folder, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for poison in ({"logger": EVIL["os.system"]}, {"seed": "${oc.env:HOME}"}, {"callbacks": [EVIL["partial"]]}):
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, **poison}))
        one_line(cli("train", f"resume={folder}"))
    (folder / "config.yaml").write_text("!!python/object/apply:os.system ['touch harmed']")
    assert "damaged" in one_line(cli("train", f"resume={folder}"))
    assert not (tmp_path / "harmed").exists()


def test_the_command_line_needs_trust_too(tmp_path: Path, cli: Callable[..., Said]) -> None:
    assert "--trust" in one_line(cli("train", "model._target_=os.system"))


def test_shipped_targets_are_the_only_ones_and_none_loads_or_runs_code() -> None:
    targets = shipped_targets()
    assert "dl_zoo.models.lenet5.LeNet5" in targets
    assert not [
        t for t in targets if t.startswith(("os.", "subprocess", "builtins", "hydra", "torch.hub", "torch.load"))
    ]
    check_targets(compose(), "the default")
    for node in EVIL.values():
        with pytest.raises(UserError):
            check_targets({"a": [node]}, "evil")


def test_bad_checkpoints_are_one_line(finished: Result, tmp_path: Path, cli: Callable[..., Said]) -> None:
    good = finished.folder / "checkpoints" / "best.ckpt"
    (tmp_path / "cut.ckpt").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "empty.ckpt").write_bytes(b"")
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "foreign.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    mismatched = torch.load(good, weights_only=True)
    mismatched["state_dict"]["net.c1.weight"] = torch.zeros(3, 1, 5, 5)
    torch.save(mismatched, tmp_path / "mismatched.ckpt")
    for name, words in {
        "missing.ckpt": "there is no such run folder or checkpoint",
        "cut.ckpt": "damaged",
        "empty.ckpt": "damaged",
        "text.ckpt": "damaged",
        "foreign.ckpt": "not a checkpoint of dl_zoo",
        "list.ckpt": "not a checkpoint of dl_zoo",
        "mismatched.ckpt": "c1.weight",
        ".": "holds no checkpoint",
    }.items():
        assert words in one_line(cli("evaluate", str(tmp_path / name))), name
    for words, *command in (
        ("resume=nowhere", "train", "resume=nowhere"),
        ("no such run folder or checkpoint", "train", "weights=nowhere.pt", "trainer=smoke", "run_dir=a"),
    ):
        said = cli(*command)
        assert said.code == 2
        assert words.removeprefix("resume=") in said.err.splitlines()[-1]


def test_a_bad_checkpoint_is_answered_quickly(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "dl_zoo": Pickled()}, tmp_path / "evil.ckpt")
    code = (
        "import json, os, sys; sys.argv = ['dl-zoo', 'evaluate', 'evil.ckpt']\n"
        "from dl_zoo.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "print(json.dumps([code, 'pytorch_lightning' in sys.modules, sum(os.times()[:2])]))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    exit_code, imported_lightning, seconds = json.loads(said.stdout)
    assert exit_code == 2
    assert not imported_lightning
    assert seconds < 4  # processor time, so that a busy machine does not fail this
    assert not (tmp_path / "harmed").exists()


def test_checkpoints_hold_plain_data_only(finished: Result) -> None:
    content = checkpoints.read(finished.folder / "checkpoints" / "last.ckpt")
    assert set(content["dl_zoo"]) == {"schema", "config", "dims", "classes", "normalisation", "vocabulary"}
    assert all(key.startswith("net.") for key in content["state_dict"])
    assert content["dl_zoo"]["classes"] == [str(i) for i in range(10)]
