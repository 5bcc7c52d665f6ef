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
