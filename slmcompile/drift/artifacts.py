"""Drift of what was made: outputs that are nowhere, damaged ones, and what a remote lacks."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.drift.finding import Finding, folded, listed
from slmcompile.files.artifact import verify
from slmcompile.machine.process import python_module
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project
from slmcompile.state.state import (
    EMPTY_FOLDER,
    Cache,
    Here,
    Locked,
    default_remote,
    here,
    md5_file,
    read_lock,
)


@dataclass(frozen=True)
class _Output:
    """A path that a ``dvc.lock`` has a hash for, and a recipe that makes it."""

    recipe: str
    stage: Stage
    locked: Locked
    path: str

    @property
    def md5(self) -> str:
        return self.locked.outs[self.path]


_Outputs = Mapping[str, Mapping[str, _Output]]
"""By recipe and path."""


def cache(project: Project, plans: Sequence[Plan], *, deep: bool = False) -> Iterator[Finding]:
    """Outputs that ``dvc.lock`` records and that are not here, not in the cache, or damaged.

    The names and sizes of an output's files are compared with its manifest, and with ``deep``
    every byte; of one that is not here ``deep`` reads the cache's. Metrics and plots are read.
    """
    blobs = Cache(project)
    lost, uncached, rewritten = (defaultdict[str, dict[str, _Output]](dict) for _ in range(3))
    for out in _recorded(project, plans):
        found = here(project, blobs, out.locked, out.path)
        kept = blobs.has(out.md5, out.locked.sizes.get(out.path))
        if out.path != out.stage.out:
            if found != "intact":
                rewritten[out.recipe][out.path] = out
        elif found == "missing" and not kept:
            lost[out.recipe][out.path] = out
        elif damage := _damage(project, blobs, out, found, kept=kept, deep=deep):
            yield damage
        elif not kept:
            uncached[out.recipe][out.path] = out
    yield from _lost(lost, default_remote(project))
    yield from _uncached(uncached)
    yield from _rewritten(rewritten, blobs)


def _lost(outputs: _Outputs, remote: str | None) -> Iterator[Finding]:
    for recipe, found in outputs.items():
        mend = f"run `slmcompile run {recipe}`"
        if remote:
            target = f"--with-deps pipelines/{recipe}/dvc.yaml" if len(found) > 1 else min(found)
            mend = f"run `dvc pull {target}` or `slmcompile run {recipe}`"
        where = "neither here nor in the cache"
        told = dict.fromkeys(found, f"is recorded, and is {where}")
        yield folded("cache", recipe, told, f"recorded outputs are {where}", mend)


def _uncached(outputs: _Outputs) -> Iterator[Finding]:
    for recipe, found in outputs.items():
        stages = [
            f"pipelines/{out.stage.pipeline}/dvc.yaml:{out.stage.name}" for out in found.values()
        ]
        target = stages[0] if len(stages) == 1 else f"--with-deps pipelines/{recipe}/dvc.yaml"
        mend = f"run `dvc commit -f {target}`, or it will be made anew"
        told = dict.fromkeys(found, "is here, its cache object is missing")
        yield folded("cache", recipe, told, "outputs are here, their cache objects missing", mend)


def _rewritten(outputs: _Outputs, blobs: Cache) -> Iterator[Finding]:
    for recipe, found in outputs.items():
        told = dict.fromkeys(found, "is not as its stage wrote it")
        kept = all(blobs.has(out.md5) for out in found.values())
        mend = f"run `slmcompile run {recipe}`"
        mend = (
            f"{mend}, which brings back what it wrote"
            if kept
            else f"run `git checkout {' '.join(found)}`"
        )
        yield folded("damaged", recipe, told, "metrics are not as their stages wrote them", mend)


def _damage(
    project: Project, blobs: Cache, out: _Output, found: Here, *, kept: bool, deep: bool
) -> Finding | None:
    """What is wrong with an output that is here, or with its objects where it is not."""
    what = ""
    # Of a gate DVC keeps an empty folder, as what it held is on no other machine.
    if found != "missing" and (found != "intact" or out.md5 != EMPTY_FOLDER):
        try:
            verify(project.root / out.path, read=deep)
        except CorruptError as error:
            what = error.what.replace(f"{project.root}/", "").removeprefix(f"{out.path}/")
        if not what and found == "changed":
            what = "is not as its stage wrote it"
    if not what and not (deep and found == "missing"):
        return None
    spoilt = {
        name: project.shown(blobs.blob(key))
        for name, key in (blobs.folder(out.md5) or {}).items()
        if md5_file(blobs.blob(key)) not in {key, None}
    }
    if not what and spoilt:
        what = f"its cache blobs have other bytes than their names say: {listed(spoilt)}"
    if not what:
        return None
    again = f"`slmcompile run {out.recipe}`, which makes it anew"
    if spoilt:
        mend = f"remove {' '.join(spoilt.values())} and run {again}"
    else:
        mend = f"run `dvc checkout -f {out.path}`" if kept else f"run {again}"
    return Finding("damaged", out.path, what, mend)


def remote(project: Project, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Outputs that the default DVC remote lacks. Asks the remote.

    Raises:
        MissingError: there is no default remote, or it cannot be reached (exit 69).
    """
    recipes = {
        out.path: out.recipe for out in _recorded(project, plans) if out.path == out.stage.out
    }
    wanted = sorted(recipes)
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
    lacking: dict[str, dict[str, str]] = defaultdict(dict)
    for path in wanted:
        below = [each for each in absent if each.rstrip("/") == path or each.startswith(f"{path}/")]
        if below:
            files = sum(not each.endswith("/") for each in below)
            what = f"the remote {named.stdout.strip()} lacks {files or 'some'} of its files"
            lacking[recipes[path]][path] = what
    for recipe, told in lacking.items():
        many = f"outputs are not whole in the remote {named.stdout.strip()}"
        yield folded("remote", recipe, told, many, f"run `dvc push {' '.join(told)}`")


def _recorded(project: Project, plans: Sequence[Plan]) -> Iterator[_Output]:
    """Every output that a ``dvc.lock`` has a hash for, once."""
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
                if locked and locked.outs.get(path) and path not in seen:
                    seen.add(path)
                    yield _Output(plan.recipe, stage, locked, path)


def _run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
