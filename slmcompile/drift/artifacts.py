"""Drift of what was made: outputs that are nowhere, damaged ones, and what a remote lacks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from slmcompile.artifact import verify
from slmcompile.drift.finding import Finding
from slmcompile.errors import CorruptError, MissingError
from slmcompile.pipeline.state import Cache, md5_file, present, read_lock
from slmcompile.planning.definition import Plan, Stage
from slmcompile.process import python_module
from slmcompile.project import Project

_LISTED = 5


def cache(project: Project, plans: Sequence[Plan], *, deep: bool = False) -> Iterator[Finding]:
    """Outputs that ``dvc.lock`` records and that are neither in the cache nor in the workspace.

    With ``deep`` what is there is read and compared with its manifest or its cache key.
    """
    blobs = Cache(project)
    for stage, path, md5 in _recorded(project, plans):
        here = present(project, blobs, path, md5)
        kept = path == stage.out and blobs.has(md5)
        if not (here or kept):
            yield Finding(
                "cache",
                path,
                "is recorded, and is neither here nor in the cache",
                f"run `dvc pull {path}` or `slmcompile run {_recipe_of(stage, plans)}`"
                if path == stage.out
                else f"run `git checkout {path}`",
            )
        elif deep and path == stage.out:
            yield from _damage(project, blobs, path, md5, here=here, kept=kept)


def remote(project: Project, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Outputs that the default DVC remote lacks. Asks the remote.

    Raises:
        MissingError: there is no default remote, or it cannot be reached (exit 69).
    """
    wanted = sorted({path for stage, path, _ in _recorded(project, plans) if path == stage.out})
    if not wanted:
        return
    dvc = python_module("dvc")
    named = _run([*dvc, "config", "core.remote"], project.root)
    if named.returncode != 0 or not named.stdout.strip():
        raise MissingError(
            "drift --remote: the project has no default DVC remote",
            "dvc remote add --default NAME URL",
        )
    command = [*dvc, "data", "status", "--not-in-remote", "--granular", "--json", *wanted]
    done = _run(command, project.root)
    try:
        absent = list(json.loads(done.stdout).get("not_in_remote", []))
    except ValueError as error:
        said = (done.stderr.strip().splitlines() or ["DVC gave no reason"])[-1]
        raise MissingError(
            f"drift --remote: {said.removeprefix('ERROR: ')}", "check the remote and its login"
        ) from error
    for path in wanted:
        below = [each for each in absent if each.rstrip("/") == path or each.startswith(f"{path}/")]
        if below:
            files = sum(not each.endswith("/") for each in below)
            yield Finding(
                "remote",
                path,
                f"the remote {named.stdout.strip()} lacks {files or 'some'} of its files",
                f"run `dvc push {path}`",
            )


def _recorded(project: Project, plans: Sequence[Plan]) -> Iterator[tuple[Stage, str, str]]:
    """Every output that a ``dvc.lock`` has a hash for, once: (stage, path, MD5)."""
    locks = {
        pipeline.name: read_lock(project, pipeline.name)
        for plan in plans
        for pipeline in plan.pipelines
    }
    seen: set[str] = set()
    for plan in plans:
        for stage in plan.stages():
            locked = locks[stage.pipeline].get(stage.name)
            for path in stage.outs if locked else ():
                md5 = locked.outs.get(path) if locked else None
                if md5 and path not in seen:
                    seen.add(path)
                    yield stage, path, md5


def _damage(
    project: Project, blobs: Cache, path: str, md5: str, *, here: bool, kept: bool
) -> Iterator[Finding]:
    if here:
        try:
            verify(project.root / path)
        except CorruptError as error:
            what = error.what.replace(f"{project.root}/", "").removeprefix(f"{path}/")
            mend = f"remove {path} and run `dvc checkout {path}`, or run its recipe again"
            yield Finding("damaged", path, what, mend)
    elif kept:
        spoilt = [name for name, blob, key in _blobs(blobs, md5) if md5_file(blob) != key]
        if spoilt:
            names = ", ".join(spoilt[:_LISTED]) + (", …" if len(spoilt) > _LISTED else "")
            yield Finding(
                "damaged",
                path,
                f"its cache blobs have other bytes than their names say: {names}",
                f"remove them from {blobs.root} and run `dvc pull {path}` or its recipe again",
            )


def _blobs(blobs: Cache, md5: str) -> Iterator[tuple[str, Path, str]]:
    for name, key in (blobs.folder(md5) or {}).items():
        yield name, blobs.blob(key), key


def _recipe_of(stage: Stage, plans: Sequence[Plan]) -> str:
    """A recipe that makes the stage's output."""
    return next(plan.recipe for plan in plans if any(each == stage for each in plan.stages()))


def _run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
