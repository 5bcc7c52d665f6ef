"""Makes DVC forget an output that is of other work than its stage.

A ``dvc.lock`` comes with a branch or out of a merge, and DVC believes it where its hashes fit. The
manifest of an output names the work that made it, so a plan can tell; and before DVC runs, the
entry has to go, and whatever the run-cache remembers with that output.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import yaml

from slmcompile.files.artifact import write_text
from slmcompile.files.safe_read import read_or_none, read_regular
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.project import Project
from slmcompile.recipe.yaml_file import parse_yaml
from slmcompile.state.changes import Change
from slmcompile.state.locks import project_lock
from slmcompile.state.state import Cache


def forget(project: Project, changes: Iterable[Change]) -> None:
    """Removes the entries of those stages of which the plan says so.

    Raises:
        MissingError: a lock cannot be written (exit 69).
    """
    wanted: dict[str, dict[str, str]] = {}
    for change in changes:
        for reason in change.reasons:
            if reason.cause == "other_work":
                of = wanted.setdefault(change.stage.pipeline, {})
                of[change.stage.name] = str(reason.old)
    if not wanted:
        return
    with project_lock(project):
        for pipeline, stages in wanted.items():
            _from_lock(project, f"pipelines/{pipeline}/dvc.lock", stages.keys())
        _from_run_cache(project, {md5 for of in wanted.values() for md5 in of.values()})


def _from_lock(project: Project, path: str, stages: Iterable[str]) -> None:
    data = read_regular(project.root, path, path, MAX_BYTES)
    if data is not None:
        content = parse_yaml(data, project.root / path, path).content
        kept = {name: each for name, each in content["stages"].items() if name not in stages}
        write_text(
            project.root / path, yaml.safe_dump({**content, "stages": kept}, sort_keys=False)
        )


def _from_run_cache(project: Project, outputs: Iterable[str]) -> None:
    runs = Cache(project).root / "runs"
    named = [md5.encode() for md5 in outputs]
    for path in runs.glob("*/*/*"):
        data = read_or_none(runs, path.relative_to(runs).as_posix(), MAX_BYTES)
        if data is not None and any(md5 in data for md5 in named):
            shutil.rmtree(path.parent, ignore_errors=True)
