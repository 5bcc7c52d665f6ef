"""The outputs of a plan's stages, each held against its manifest and its place in the plan.

Whether an output is that of the work that was planned is told by fingerprint: a manifest names the
one of the work that made it, and what it has to be follows from the stage's spec and from the
manifests of what it reads. DVC's lock and dates say nothing here.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.files.safe_read import check_inside
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.kinds import KINDS
from slmcompile.provenance.folder import Listed, hash_of, read_listed, require_exactly
from slmcompile.recipe.project import Project
from slmcompile.state.scratch import work_fingerprint

SUBJECTS = frozenset({"train", "export"})
"""Kinds whose files are what a run is for."""


@dataclass(frozen=True)
class Output:
    """A stage, and what its folder holds; of a kind that only passes that is not looked at."""

    stage: Stage
    listed: Listed | None


def outputs(project: Project, plan: Plan) -> Iterator[Output]:
    """Every stage of a plan with its manifest, which is of the work that was planned.

    The files of each are still to be looked at.

    Raises:
        MissingError: an output is not there (exit 69).
        CorruptError: a manifest is damaged, or of other work (exit 74).
        RefusedError: an output lies behind a link (exit 77).
    """
    found: dict[str, Listed] = {}
    for stage in plan.stages():
        if KINDS[stage.kind].constant:
            yield Output(stage, None)
            continue
        if not is_there(project, stage.out):
            raise MissingError(
                f"{stage.out}: is not there", f"run `slmcompile run {plan.recipe}`, or `dvc pull`"
            )
        listed = read_listed(project.root / stage.out, stage.out)
        work = work_fingerprint(stage.spec(), _read(project, stage, found), plan.files)
        named = (listed.content.get("kind"), listed.content.get("fingerprint"))
        if named != (stage.kind, work):
            raise CorruptError(
                f"{stage.out}: its manifest is not of the work that is planned as {stage.address}",
                f"remove the folder and run `slmcompile run {plan.recipe}`",
            )
        found[stage.out] = listed
        yield Output(stage, listed)


def is_there(project: Project, out: str) -> bool:
    """Whether an output's folder is in the project. Raises as ``check_inside`` (exit 77)."""
    facts = check_inside(project.root, out, out)
    return facts is not None and stat.S_ISDIR(facts.st_mode)


def require_whole(project: Project, output: Output, *, alone: bool = False) -> None:
    """Checks every file of an output against its manifest; see ``require_exactly``."""
    if output.listed is not None:
        out, listed = output.stage.out, output.listed
        require_exactly(project.root / out, out, listed.whole, listed.size, alone=alone)


def _read(
    project: Project, stage: Stage, found: Mapping[str, Listed]
) -> dict[str, Mapping[str, Any]]:
    """The manifests of what a stage reads, by role, as ``exec`` has them."""
    read: dict[str, Mapping[str, Any]] = {}
    for role, path in stage.inputs.items():
        if path in found:
            read[role] = found[path].content
        elif is_there(project, path):
            read[role] = _part(project, path, found).content
        else:
            read[role] = _alone(project, path)
    return read


def _part(project: Project, path: str, found: Mapping[str, Listed]) -> Listed:
    """One adapter's part of an output, whose manifest lists what that of the whole does."""
    listed = read_listed(project.root / path, path)
    for out, whole in found.items():
        if path.startswith(f"{out}/"):
            below = f"{path[len(out) + 1 :]}/"
            there = {
                name.removeprefix(below): sha256
                for name, sha256 in whole.files.items()
                if name.startswith(below)
            }
            if there == listed.whole:
                return listed
    raise CorruptError(f"{path}: its manifest does not agree with that of its stage", "run again")


def _alone(project: Project, path: str) -> dict[str, Any]:
    """An input that is a file, in a manifest's form."""
    facts = check_inside(project.root, path, path)
    if facts is None:
        raise MissingError(f"{path}: is not there", "take it from git, or run the recipe again")
    name = PurePosixPath(path).name
    sha256 = hash_of(project.root / path.rpartition("/")[0], path.rpartition("/")[0], name)
    return {"files": {name: {"size": facts.st_size, "sha256": sha256}}}
