"""A ``dvc.lock`` that was cut short is replaced by the last whole one.

DVC writes it in place (``dvc/dvcfile.py``, 3.67), so a full disk or a kill leaves it empty or ends
it anywhere, and no later run of DVC gets past it. A copy is kept from before each run. What a lock
lacks then, the run-cache and the finished work that is kept give back.
"""

from __future__ import annotations

from collections.abc import Callable

from slmcompile.files.artifact import saying_what_is_missing, write_bytes
from slmcompile.files.safe_read import read_regular
from slmcompile.plans.definition import Plan
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.project import Project
from slmcompile.state.locks import other_runs
from slmcompile.state.state import is_cut

_COPIES = "dvc.lock"
"""Folder of the copies, in the ignored scratch folder."""


def keep_or_put_back(project: Project, plan: Plan, say: Callable[[str], None]) -> None:
    """Copies every lock of a plan that is whole, and puts the copy back where one is not.

    ``say`` is told of each that is put back. Locks that recipes share are left alone while another
    recipe runs, whose DVC may be writing one just now.

    Raises:
        MissingError: one cannot be written (exit 69).
        RefusedError: one is behind a link (exit 77).
    """
    alone = not other_runs(project, plan.recipe)
    for pipeline in plan.pipelines if alone else (plan.own,):
        path = f"pipelines/{pipeline.name}/dvc.lock"
        kept = f"{project.scratch.name}/{_COPIES}/{pipeline.name}"
        data = read_regular(project.root, path, path, MAX_BYTES)
        copy = read_regular(project.root, kept, kept, MAX_BYTES)
        if data is not None and not is_cut(data):
            if data != copy:
                write_bytes(project.root / kept, data)
        elif data is not None and copy is not None and not is_cut(copy):
            write_bytes(project.root / path, copy)
            say(f"{path}: was cut short while DVC wrote it; the one before it is put back")
        elif data is not None:
            with saying_what_is_missing(project.root / path):
                (project.root / path).unlink()
            say(f"{path}: was cut short while DVC wrote it, and is removed")
