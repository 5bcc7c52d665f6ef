"""Runs of a tree: what they are told, what they say, and that they end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slmcompile.ci import run
from slmcompile.ci.outputs import disarmed
from slmcompile.console.errors import UsageError
from slmcompile.recipe.project import Project

WAITS = """
import signal, sys, time
def asked(*_):
    print("asked", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, asked)
print("ready", flush=True)
while True:
    time.sleep(1)
"""
DEAF = WAITS.replace("SIGTERM, asked", "SIGTERM, signal.SIG_IGN")


def started(code: str) -> subprocess.Popen[str]:
    """A command that says so when it runs."""
    command = [sys.executable, "-c", code]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    return running


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """Where the tool that is called does what a test says."""
    package = tmp_path / "tool/slmcompile"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    return package / "__main__.py"


def called(tool: Path, code: str, **environ: str) -> run.RecipeResult:
    tool.write_text(code, encoding="utf-8")
    told = environ | {"PYTHONPATH": str(tool.parent.parent)}
    return run.call(Project(tool.parents[2]), ("run", "tiny"), "tiny", told)


def test_who_is_interrupted_asks_what_he_runs_to_end_and_waits() -> None:
    """Case killed-and-resumed, as far as asking goes: a training leaves a checkpoint then."""
    running = started(WAITS)
    with pytest.raises(KeyboardInterrupt), run._ending(running, None):
        raise KeyboardInterrupt
    assert running.returncode == 143


def test_what_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_GRACE", 0.1)
    running = started(DEAF)
    with pytest.raises(subprocess.TimeoutExpired), run._ending(running, None):
        pass
    assert running.returncode == -9


@pytest.mark.parametrize("code", [WAITS, DEAF])
def test_a_run_that_takes_too_long_is_ended_and_refused(
    tool: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case too-long."""
    monkeypatch.setattr(run, "_GRACE", 0.1)
    ended = called(tool, code, SLMCOMPILE_MOST_HOURS=str(0.5 / 3600))
    assert ended.code == 77
    assert "took more than the" in ended.what


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "1e9", "six", "1h"])
def test_hours_are_a_number_of_hours(hours: str) -> None:
    with pytest.raises(UsageError, match="no number of hours"):
        run.most_seconds({run.MOST_HOURS: hours})


def test_a_run_has_nothing_of_the_job_that_opens_anything(
    tool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("GITHUB_TOKEN", "ACTIONS_RUNTIME_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_OUTPUT")
    secrets = dict.fromkeys((*names, "SLMCOMPILE_SIGNING_KEY"), "swordfish")
    told = "import os; print('there:', 'swordfish' in str(os.environ), os.environ['PYTHONPATH'])"
    assert called(tool, told, **secrets).code == 0
    assert capsys.readouterr().out == f"there: False {tool.parent.parent}\n"


def test_no_line_of_a_run_is_a_command(tool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one that is hidden behind a return, or in what a recipe ends with."""
    says = r"""
print("::add-mask::x\r::error::y\n  ::group::z\nx ##[error]y")
print("error: ::set-env::a")
raise SystemExit(65)
"""
    ended = called(tool, says)
    assert ended.code == 65
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.lstrip().startswith("::") or "##[" in line]
    assert len(lines) == 5


def test_several_lines_of_ours_are_none_either() -> None:
    assert disarmed("remote\n::error::x\n \t::y") == "remote\n: :error::x\n: :y"
