"""The wheel carries its configurations and runs from an empty folder."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_wheel_runs_where_there_is_no_clone(tmp_path: Path) -> None:
    def call(*command: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert said.returncode == 0, said.stderr
        return said.stdout

    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", str(ROOT))
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    wheel = next((tmp_path / "dist").glob("dl_zoo-*.whl"))
    call(python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel))
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    here = next(path for path in map(Path, sys.path) if (path / "torch").is_dir())  # 6 GB are not installed twice
    (site / "zz_dependencies.pth").write_text(f"{here}\n")
    assert str(site) in call(python, "-c", "import dl_zoo; print(dl_zoo.__file__)")
    call(python, "-m", "dl_zoo", "train", "trainer=smoke", "run_dir=run")
    assert "test/acc" in call(python, "-m", "dl_zoo", "evaluate", "run")
    assert {p.name for p in tmp_path.iterdir()} == {"dist", "env", "run"}
