"""A plan as a file: written by ``plan --out``, shown by ``show``, run by ``apply``.

The file holds the whole plan and a hash of everything that it was made from; no time and no host,
so that the same plan gives the same bytes. Whether it may still be run is not decided here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from slmcompile.artifact import sha256_file, write_json
from slmcompile.errors import CorruptError, StaleError, UsageError
from slmcompile.pipeline.changes import Change, Reason
from slmcompile.pipeline.emit import overrides_path
from slmcompile.planning.canonical import digest
from slmcompile.planning.definition import Pipeline, Plan, Stage
from slmcompile.planning.diff import Side, StageState
from slmcompile.project import Project
from slmcompile.recipe.schema import ID_PATTERN

FORMAT_VERSION = "1.0"
_LARGEST = 64 * 1024 * 1024


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
        stages = {
            stage.name: StageState(
                stage,
                self.identities[stage.address],
                {path: self.plan.files[path] for path in stage.files},
                self.fingerprints[stage.address],
            )
            for stage in self.plan.stages()
        }
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
    content = json.loads(json.dumps(content))  # tuples as lists, so that the digest is of the file
    return content | {"sha256": digest(content)}


def save(
    project: Project,
    plan: Plan,
    changes: tuple[Change, ...],
    to: Path,
    select: tuple[str, ...] = (),
) -> None:
    """Writes a plan file, whole or not at all."""
    if to.is_dir():
        raise UsageError(f"--out {to}: is a folder", "name a file")
    write_json(to, document(project, plan, changes, select))


def load(path: Path) -> SavedPlan:
    """Reads a plan file.

    Raises:
        UsageError: no such file (exit 64).
        StaleError: written in a format that this version does not know (exit 4).
        CorruptError: not a plan, or edited after it was written (exit 74).
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such plan file", "write one with `slmcompile plan R --out`")
    if path.stat().st_size > _LARGEST:
        raise CorruptError(f"{path}: too large for a plan file", "plan anew with --out")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = str(content["format_version"])
        if _major(version) != _major(FORMAT_VERSION):
            raise StaleError(
                f"{path}: plan format {version}; this version reads {FORMAT_VERSION}",
                "plan anew with this version of slmcompile",
            )
        told = content.pop("sha256")
        if told != digest(content):
            raise CorruptError(f"{path}: edited after it was written", "plan anew with --out")
        return _read(path.as_posix(), content)
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
        path: sha256_file(project.root / path) if (project.root / path).is_file() else None
        for path in paths
    }


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


def _stage(entry: Mapping[str, Any]) -> Stage:
    values: dict[str, Any] = {known.name: entry[known.name] for known in fields(Stage)}
    return Stage(**values | {"files": tuple(values["files"])})


def _read(name: str, content: Mapping[str, Any]) -> SavedPlan:
    if not re.fullmatch(ID_PATTERN, content["recipe"]):
        raise ValueError("not a recipe's name")
    entries = {entry["stage"]: entry for entry in content["stages"]}
    stages = {address: _stage(entry) for address, entry in entries.items()}
    pipelines = [
        Pipeline(
            entry["name"],
            tuple(stages[address] for address in entry["stages"]),
            tuple(entry["sources"]),
            entry["runtime"],
        )
        for entry in content["pipelines"]
    ]
    made_from = content["made_from"]
    plan = Plan(
        recipe=content["recipe"],
        overrides=tuple(content["overrides"]),
        shared=tuple(pipelines[:-1]),
        own=pipelines[-1],
        origins=content["origins"],
        effective=content["effective"],
        files=made_from["data"],
    )
    return SavedPlan(
        name=name,
        plan=plan,
        changes=tuple(
            Change(
                stages[address],
                entry["action"],
                tuple(Reason(**reason) for reason in entry["reasons"]),
            )
            for address, entry in entries.items()
        ),
        select=tuple(content["select"]),
        sources=made_from["sources"],
        state=made_from["state"],
        identities={address: entry["identity"] for address, entry in entries.items()},
        fingerprints={address: entry["fingerprint"] for address, entry in entries.items()},
    )
