"""A run asks an executor for what it needs, and DVC is one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.projects import REPOSITORY, environment, make_project

RUN = """
import sys
from pathlib import Path
from slmcompile import api
from slmcompile.recipe.project import Project
from tests.executors import InProcess

root = Path(sys.argv[1])
result = api.run(
    "tiny", ["train.num_train_epochs=3"], project=root, executor=InProcess(Project(root))
)
measured = {artifact.name: artifact.metrics["exact_match"] for artifact in result.artifacts}
assert measured["torch"] >= 0.9 and measured["cpu-fp32"] == measured["torch"], measured
assert measured["base"] <= 0.3, measured
assert result.report.is_file()
assert not list(root.rglob("dvc.lock"))
"""


def test_another_executor_runs_a_recipe_without_git_and_dvc(tmp_path: Path) -> None:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(root)],
        cwd=REPOSITORY, env=environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


INTERRUPTED = """
import os, signal, subprocess, sys, threading
from pathlib import Path
from slmcompile.execution.dvc_executor import _told_to

DVC = '''
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.stdin.readline()
try:
    print("up", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit("ERROR: failed to run: slmcompile exec, exited with 130")
'''
child = subprocess.Popen(
    [sys.executable, "-c", DVC], stdin=-1, stdout=-1, stderr=-1, text=True, start_new_session=True
)

def interrupt():
    child.stdout.readline()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
print(*_told_to(child, ["repro"], Path(sys.argv[1]) / "log"))
"""


def test_what_we_passed_a_signal_on_to_has_ended_by_it(tmp_path: Path) -> None:
    """DVC ends with 1 where a stage that was still importing has ended with 130."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        cwd=REPOSITORY, env=environment(), text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("-2 ['ERROR: failed to run:"), done.stderr
