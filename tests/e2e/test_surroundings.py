"""Runs in surroundings that are not as they should be: streams, disks, git, a shell's variables."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit
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


def test_a_stage_does_not_heed_what_would_change_its_results(project: Path) -> None:
    env = environment() | {"USE_HUB_KERNELS": "1", "ATEN_CPU_CAPABILITY": "default", "USE_TF": "1"}
    env |= {"HOME": "", "TMPDIR": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-m", "slmcompile", *DATA, "data.seed=9"],
        cwd=project, env=env, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    named = "ATEN_CPU_CAPABILITY, USE_HUB_KERNELS, USE_TF of the shell do not count"
    assert done.stdout.count(named) == 1
    assert data_folders(project) == 2


def test_a_cache_that_cannot_be_written_is_said_before_any_work(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    (project / ".dvc/cache").write_text("", encoding="utf-8")
    before = (project / ".slmcompile/journal.jsonl").read_bytes()
    done = slmcompile(project, *DATA, "data.seed=9", check=False)
    assert done.returncode == Exit.MISSING
    assert done.stderr.splitlines()[0].endswith("/.dvc/cache: cannot be written (File exists)")
    assert (project / ".slmcompile/journal.jsonl").read_bytes() == before
    assert data_folders(project) == 1


FILLS_UP = """
import os, sys
from pathlib import Path
from slmcompile import api
from slmcompile.console.errors import SlmcompileError

def fill(planned):
    disk = os.statvfs(".")
    Path("filler").write_bytes(b"0" * (disk.f_bavail * disk.f_frsize - int(sys.argv[1])))

try:
    api.run("tiny", select=["+data"], on_plan=fill)
except SlmcompileError as error:
    print(error, file=sys.stderr)
    raise SystemExit(int(error.code))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace")
@pytest.mark.parametrize("room", [0, 40_000, 560_000])
def test_a_disk_that_fills_up_is_said_and_the_next_run_goes_on(tmp_path: Path, room: int) -> None:
    """In the recipe's folder, in generated files, in a stage's output or DVC's own files."""
    root = make_repository((tmp_path / "project").resolve())
    small = tmp_path / "small"
    small.mkdir()
    (tmp_path / "fills_up.py").write_text(FILLS_UP, encoding="utf-8")
    python, run = sys.executable, "-m slmcompile run tiny --select +data"
    script = f"""
        mount -t tmpfs -o size=40m tmpfs {small} && cp -a {root}/. {small}/ && cd {small} || exit 1
        {python} {tmp_path}/fills_up.py {room}; echo "first $?"
        rm filler; {python} {run} >/dev/null; echo "second $?"; find . -name '*.part*'
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        env=environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith(("first", "second", "."))]
    assert said == [f"first {int(Exit.MISSING)}", "second 0"]
