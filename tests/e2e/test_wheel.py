"""The wheel alone, in an empty folder: groups and a first recipe travel in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.projects import REPOSITORY, environment


def test_the_installed_wheel_starts_and_runs_a_project(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, REPOSITORY], check=True)
    (wheel,) = tmp_path.glob("slmcompile-*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    project = tmp_path / "empty"
    project.mkdir()

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=project,
            env=environment() | {"PYTHONPATH": str(site)},
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = run("slmcompile", "init")
    assert "recipes/tiny.yaml" in where
    assert not (project / "conf").exists()
    code = "import slmcompile, sys; sys.stdout.write(slmcompile.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(site))
    table = run("slmcompile", "run", "tiny", "eval.limit=10", "train.max_steps=5")
    assert "cpu-fp32" in table
    assert (project / "outputs/tiny/export-cpu-fp32/model.onnx").is_file()
    sources = (project / "pipelines/tiny/dvc.yaml").read_text(encoding="utf-8")
    assert str(tmp_path) not in sources
    run("slmcompile", "init", "--recipe", "quickstart")
    assert "quickstart/train" in run("slmcompile", "plan", "quickstart")
