"""The wheel carries its configurations and runs from an empty folder, with nothing of a clone beside it."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def call(where: Path, *command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DL_ZOO_DATA")}
    said = subprocess.run(command, capture_output=True, text=True, cwd=where, env=environment, check=False)
    assert said.returncode == 0, said.stderr
    return said.stdout


def built(where: Path, *how: str) -> Path:
    call(where, sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", *how, str(ROOT))
    return next((where / "dist").glob("dl_zoo-*.whl"))


def assert_it_runs(where: Path, environment: Path) -> None:
    """As somebody types it who has only installed it."""
    program = str(environment / "bin" / "dl-zoo")
    empty = where / "empty"
    empty.mkdir()
    site = call(empty, str(environment / "bin" / "python"), "-c", "import dl_zoo; print(dl_zoo.__file__)")
    assert Path(site.strip()).is_relative_to(environment)
    assert "lenet5_1998" in call(empty, program, "models")
    call(empty, program, "train", "trainer=smoke", "regularizer=[l2,ema]", "run_dir=run")
    assert "1 run in 1 setting" in call(empty, program, "compare", ".")
    assert {path.name for path in empty.iterdir()} == {"run"}


def test_a_wheel_runs_where_there_is_no_clone(tmp_path: Path) -> None:
    wheel = built(tmp_path, "--no-build-isolation")
    environment = tmp_path / "env"
    venv.create(environment, system_site_packages=True, with_pip=False)
    python = str(environment / "bin" / "python")
    call(tmp_path, sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", str(wheel))
    site = next((environment / "lib").glob("python*/site-packages"))
    torch = next(path for path in map(Path, sys.path) if (path / "torch").is_dir())  # 6 GB are not installed twice
    (site / "zz_dependencies.pth").write_text(f"{torch}\n")
    assert_it_runs(tmp_path, environment)  # 10 s: two starts of torch


@pytest.mark.release
@pytest.mark.timeout(3600)
def test_a_wheel_with_its_own_dependencies_runs(tmp_path: Path) -> None:
    """Truly clean: a new environment, everything from the package index."""
    wheel = built(tmp_path)
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    call(tmp_path, python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel))
    assert_it_runs(tmp_path, environment)
    assert "test/acc" in call(tmp_path / "empty", str(environment / "bin" / "dl-zoo"), "evaluate", "run")
