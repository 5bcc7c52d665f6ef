"""A plan as a file: written by ``plan --out``, shown by ``show``, run by ``apply``.

The file holds the whole plan and a hash of everything that it was made from; no time and no host,
so that the same plan gives the same bytes. Whether it may still be run is not decided here.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, StaleError, UsageError
from slmcompile.explain.diff import Side, states
from slmcompile.explain.document import Document, check_size, read_document
from slmcompile.files.artifact import sha256_file, write_json
from slmcompile.files.safe_read import check_inside, read_regular
from slmcompile.plans.canonical import digest
from slmcompile.plans.definition import Pipeline, Plan
from slmcompile.recipe.project import Project
from slmcompile.state.changes import Change
from slmcompile.state.emit import overrides_path

FORMAT_VERSION = "1.0"
_LARGEST = 4 << 20
_RECIPE_SUFFIXES = frozenset({".yaml", ".yml"})
_KEPT_FREE = frozenset({"recipes", "conf", "pipelines", "data", "outputs", ".dvc", ".git"})
"""Folders of a project in which every file means something, or is somebody else's."""


@dataclass(frozen=True)
class SavedPlan:
    """A plan read back.

    Attributes:
        name: the file, as messages show it.
        plan: the plan as it was compiled.
        changes: what running it would have done then.
        select: the selectors it was planned with; empty means all.
        sources: SHA-256 of every contributing recipe and group file, by path.
        state: SHA-256 of what DVC and the last run remembered, by path; None if not there.
        identities: of every stage by address, with the epochs of then.
        fingerprints: of every stage by address.
    """

    name: str
    plan: Plan
    changes: tuple[Change, ...]
    select: tuple[str, ...]
    sources: Mapping[str, str | None]
    state: Mapping[str, str | None]
    identities: Mapping[str, Mapping[str, Any]]
    fingerprints: Mapping[str, str]

    def side(self) -> Side:
        """As one side of a comparison."""
        stages = states(self.plan, self.identities, self.fingerprints)
        return Side(self.name, self.plan, stages)


def document(
    project: Project, plan: Plan, changes: tuple[Change, ...], select: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A plan and all that it was made from, as JSON values."""
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "recipe": plan.recipe,
        "overrides": list(plan.overrides),
        "select": list(select),
        "plan_id": plan.plan_id,
        "effective": plan.effective,
        "origins": dict(plan.origins),
        "made_from": {
            "sources": hashes(project, plan.own.sources),
            "data": dict(plan.files),
            "state": state_hashes(project, plan),
        },
        "pipelines": [
            {
                "name": pipeline.name,
                "sources": list(pipeline.sources),
                "runtime": pipeline.runtime,
                "stages": [stage.address for stage in pipeline.stages],
            }
            for pipeline in plan.pipelines
        ],
        "stages": list(_stage_entries(plan, changes)),
    }
    if plan.members:
        content["members"] = {name: dict(own) for name, own in plan.members.items()}
    content = json.loads(json.dumps(content))  # tuples as lists, so that the digest is of the file
    return content | {"sha256": digest(content)}


def save(
    project: Project,
    plan: Plan,
    changes: tuple[Change, ...],
    to: Path,
    select: tuple[str, ...] = (),
) -> None:
    """Writes a plan file, whole or not at all.

    Raises:
        UsageError: the place is not one for a plan, or holds another file (exit 64).
    """
    if to.is_dir():
        raise UsageError(f"--out {to}: is a folder", "name a file")
    if to.suffix in _RECIPE_SUFFIXES:
        raise UsageError(f"--out {to}: a plan is JSON", f"name it {to.stem}.json")
    place = to.resolve()
    folders = _KEPT_FREE | {path.split("/")[0] for path in plan.files if "/" in path}
    if place.is_relative_to(project.root) and place.relative_to(project.root).parts[0] in folders:
        raise UsageError(
            f"--out {to}: {project.shown(place).split('/')[0]}/ is no place for a plan",
            f"name a file elsewhere, {to.name} in the project's folder for instance",
        )
    if to.exists() and not _is_plan(to):
        raise UsageError(f"--out {to}: is there and is no saved plan", "name another file")
    write_json(to, document(project, plan, changes, select))


def _is_plan(path: Path) -> bool:
    """Whether a file says that it is a plan, of whatever version and whoever edited it."""
    try:
        small = path.is_file() and path.stat().st_size <= _LARGEST
        content = json.loads(path.read_bytes()) if small else None
    except (OSError, ValueError, RecursionError):
        return False
    return (
        isinstance(content, dict) and {"format_version", "plan_id", "made_from"} <= content.keys()
    )


def load(path: Path) -> SavedPlan:
    """Reads a plan file.

    Raises:
        UsageError: no such file, or a recipe's (exit 64).
        StaleError: written in a format that this version does not know (exit 4).
        CorruptError: not a plan, or edited after it was written (exit 74).
        RefusedError: a link or a device (exit 77).
    """
    if path.suffix in _RECIPE_SUFFIXES:
        raise UsageError(
            f"{path}: a recipe's file and no plan file",
            f"name the recipe {path.stem!r}, or write a plan of it with"
            f" `slmcompile plan {path.stem} --out FILE`",
        )
    try:
        data = read_regular(path.parent, path.name, path.as_posix(), _LARGEST)
        if data is None:
            raise UsageError(
                f"{path}: no such plan file", "write one with `slmcompile plan R --out`"
            )
        if len(data) > _LARGEST:
            raise CorruptError(f"{path}: too large for a plan file", "plan anew with --out")
        content = json.loads(data)
        version = str(content["format_version"])
        if _major(version) != _major(FORMAT_VERSION):
            raise StaleError(
                f"{path}: plan format {version}; this version reads {FORMAT_VERSION}",
                "plan anew with this version of slmcompile",
            )
        check_size(content)
        told = content.pop("sha256")
        if told != digest(content):
            raise CorruptError(f"{path}: edited after it was written", "plan anew with --out")
        return _saved(path.as_posix(), read_document(data))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError(f"{path}: not a plan file", "plan anew with --out") from error


def _major(version: str) -> str:
    return version.partition(".")[0]


def state_hashes(project: Project, plan: Plan) -> dict[str, str | None]:
    """SHA-256 of what DVC and the last run remember of a plan's pipelines."""
    paths = [f"pipelines/{pipeline.name}/dvc.lock" for pipeline in plan.pipelines]
    return hashes(project, [*paths, overrides_path(plan.recipe)])


def hashes(project: Project, paths: Iterable[str]) -> dict[str, str | None]:
    """SHA-256 of project files by path; None where there is no file."""
    return {
        path: sha256_file(project.root / path) if _is_file(project, path) else None
        for path in paths
    }


def _is_file(project: Project, path: str) -> bool:
    found = check_inside(project.root, path, path)
    return found is not None and stat.S_ISREG(found.st_mode)


def _stage_entries(plan: Plan, changes: tuple[Change, ...]) -> Iterator[dict[str, Any]]:
    fingerprints = plan.fingerprints()
    for change in changes:
        stage = change.stage
        yield {
            **asdict(stage),
            "stage": stage.address,
            "fingerprint": fingerprints[stage.address],
            "identity": stage.identity(),
            "action": change.action,
            "reasons": [asdict(reason) for reason in change.reasons],
        }


def _saved(name: str, document: Document) -> SavedPlan:
    entries = {entry.stage: entry for entry in document.stages}
    stages = {address: entry.planned() for address, entry in entries.items()}
    pipelines = [
        Pipeline(
            pipeline.name,
            tuple(stages[address] for address in pipeline.stages),
            pipeline.sources,
            pipeline.runtime,
        )
        for pipeline in document.pipelines
    ]
    plan = Plan(
        recipe=document.recipe,
        overrides=document.overrides,
        shared=tuple(pipelines[:-1]),
        own=pipelines[-1],
        origins=document.origins,
        effective=document.effective,
        files=document.made_from.data,
        members=document.members,
    )
    return SavedPlan(
        name=name,
        plan=plan,
        changes=tuple(
            Change(stages[address], entry.action, entry.reasons)
            for address, entry in entries.items()
        ),
        select=document.select,
        sources=document.made_from.sources,
        state=document.made_from.state,
        identities={address: vars(entry.recorded) for address, entry in entries.items()},
        fingerprints={address: entry.fingerprint for address, entry in entries.items()},
    )
