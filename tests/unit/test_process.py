"""No stage goes on where the run that started it has ended, however early that was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from slmcompile.machine.process import STARTED_BY, mark

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

STAGE = """
import sys, time
from slmcompile.machine.process import die_with_parent
die_with_parent()
print("began", flush=True)
time.sleep(60)
"""


def stage(started_by: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STAGE],
        env=os.environ | {STARTED_BY: started_by},
        stdout=subprocess.PIPE,
        text=True,
    )


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_stage_whose_run_has_ended_before_it_began_does_not_begin() -> None:
    run = sleeper()
    named = mark(run.pid)
    assert named.startswith(f"{run.pid}:")
    run.kill()
    run.wait()
    with stage(named) as late:
        assert (late.communicate(timeout=20)[0], late.returncode) == ("", -signal.SIGKILL)


def test_a_stage_ends_with_the_run_that_started_it() -> None:
    run = sleeper()
    with stage(mark(run.pid)) as going:
        assert going.stdout is not None
        assert going.stdout.readline() == "began\n"
        run.kill()
        run.wait()
        assert going.wait(timeout=20) == -signal.SIGKILL


def test_a_number_that_another_process_has_now_is_not_the_run() -> None:
    number, _, started = mark(os.getpid()).partition(":")
    with stage(f"{number}:{int(started) - 1}") as late:
        assert late.wait(timeout=20) == -signal.SIGKILL
    assert mark(2**22 + 1) == ""


@pytest.mark.parametrize("run", ["none", "this"])
def test_a_stage_begins_under_dvc_alone_and_under_a_run_that_lives(run: str) -> None:
    with stage(mark(os.getpid()) if run == "this" else "") as going:
        assert going.stdout is not None
        assert going.stdout.readline() == "began\n"
        going.kill()
