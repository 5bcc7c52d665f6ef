"""Runs in surroundings that are not as they should be: streams, disks, git, a shell's variables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import environment, make_repository, slmcompile

DATA = ("run", "tiny", "--select", "+data")


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose base model and data are there."""
    root = make_repository(tmp_path_factory.mktemp("surroundings") / "project")
    slmcompile(root, *DATA)
    return root


@pytest.fixture
def project(fetched: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    subprocess.run(["cp", "-a", str(fetched), str(tmp_path / "project")], check=True)
    return tmp_path / "project"


def data_folders(project: Path) -> int:
    return len([*(project / "outputs").glob("data-*/manifest.json")])


@pytest.mark.parametrize("gone", ["before", "during"])
def test_a_reader_that_goes_away_does_not_end_the_work(project: Path, gone: str) -> None:
    """``slmcompile run R | head -1``: the stages share the pipe."""
    words = [sys.executable, "-m", "slmcompile", *DATA, "data.seed=9"]
    with subprocess.Popen(
        words, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        if gone == "during":
            assert running.stdout.read(1)
        running.stdout.close()
        error = running.stderr.read()
        code = running.wait()
    assert (code, error) == (0, b"")
    assert data_folders(project) == 2


def test_a_run_in_an_ascii_terminal_does_what_it_does_elsewhere(project: Path) -> None:
    env = environment() | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "slmcompile", *DATA, "data.seed=9"],
        cwd=project, env=env, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"peak 0.5-0" in done.stdout
    assert data_folders(project) == 2
