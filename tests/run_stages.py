"""Runs a recipe's stages one after the other without DVC, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.projects import REPOSITORY, environment


def run_stages(root: Path, recipe: str, *words: str) -> str:
    """Runs every stage of a recipe of a project, or those of some kinds; what they said.

    Words with ``=`` in them are overrides, others are kinds.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.run_stages", str(root), recipe, *words],
        cwd=REPOSITORY, env=environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _main(root: Path, recipe: str, *words: str) -> None:
    from slmcompile.execution.sync import compile_recipe, sync
    from slmcompile.recipe.project import Project
    from slmcompile.stages.runner import execute

    overrides = [word for word in words if "=" in word]
    kinds = {*words} - {*overrides}
    project = Project(root)
    plan = compile_recipe(project, recipe, overrides)
    sync(project, [plan])
    for stage in plan.stages():
        if not kinds or stage.kind in kinds:
            execute(project, stage.spec_path)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), *sys.argv[2:])
