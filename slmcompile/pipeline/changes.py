"""What a plan would do now: which stages run, which are restored, which stay, and why.

Computed from spec texts, lock files and the cache; nothing is executed and nothing is written.
(``dvc repro --dry`` does not propagate changes, so it cannot answer this.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slmcompile.pipeline.state import Cache, Locked, md5_file, md5_text, present, read_lock
from slmcompile.planning.definition import Plan, Stage
from slmcompile.project import Project

Action = Literal["run", "restore", "unchanged"]
Cause = Literal["first_run", "key", "package", "epoch", "file", "input", "output", "command"]

SPEC_STORE = "specs"
"""Folder below ``.slmcompile`` with the spec of every stage that ran here, named by its MD5."""


@dataclass(frozen=True)
class Reason:
    """Why a stage does not stay as it is.

    Attributes:
        cause: a stable word for programs.
        subject: the key, package, file, input or output.
        old: what it was, where that is known.
        new: what it is.
        where: ``file:line`` of a key.
    """

    cause: Cause
    subject: str = ""
    old: Any = None
    new: Any = None
    where: str = ""

    def sentence(self) -> str:
        """One phrase for a person."""
        values = f"{_short(self.old)} → {_short(self.new)}"
        match self.cause:
            case "first_run":
                return "has not run here"
            case "key":
                return f"{self.subject} {values}"
            case "package":
                return f"package {self.subject} {values}"
            case "epoch":
                return f"slmcompile's own code changed (epoch {values})"
            case "file":
                return f"{self.subject} changed"
            case "input":
                return f"input {self.subject} changed"
            case "output":
                return f"output {self.subject} is missing"
            case "command":
                return "its command changed"


@dataclass(frozen=True)
class Change:
    """What will happen to one stage."""

    stage: Stage
    action: Action
    reasons: tuple[Reason, ...] = ()


def changes(project: Project, plan: Plan) -> tuple[Change, ...]:
    """One entry per stage, in plan order."""
    cache = Cache(project)
    locks = {pipeline.name: read_lock(project, pipeline.name) for pipeline in plan.pipelines}
    # Hash of every path a stage writes, once everything before it is done; None: not known.
    known: dict[str, str | None] = {}
    found: list[Change] = []
    for stage in plan.stages():
        locked = locks[stage.pipeline].get(stage.name)
        change, outs = _one(project, plan, stage, locked, known, cache)
        for path in stage.outs:
            known[path] = outs.get(path)
        found.append(change)
    return tuple(found)


def _one(
    project: Project,
    plan: Plan,
    stage: Stage,
    locked: Locked | None,
    known: Mapping[str, str | None],
    cache: Cache,
) -> tuple[Change, Mapping[str, str]]:
    deps: dict[str, str | None] = {stage.spec_path: md5_text(stage.spec_text())}
    for path in stage.files:
        deps[path] = md5_file(project.root / path)
    for path in stage.inputs.values():
        deps[path] = known[path]
    reasons = _reasons(project, plan, stage, locked, deps)
    if locked and all(reason.cause == "input" for reason in reasons):
        missing = [
            path for path in stage.outs if not present(project, cache, path, locked.outs[path])
        ]
        gone = tuple(Reason("output", path) for path in missing)
        if not reasons and not missing:
            return Change(stage, "unchanged"), locked.outs
        if not reasons and all(cache.has(locked.outs[path]) for path in missing):
            return Change(stage, "restore", gone), locked.outs
        reasons = gone or reasons
    if all(deps.values()):
        certain = {path: md5 for path, md5 in deps.items() if md5}
        remembered = cache.remembered_run(stage.command, certain, stage.outs)
        if remembered is not None:
            return Change(stage, "restore", reasons), remembered
    return Change(stage, "run", reasons), {}


def _reasons(
    project: Project,
    plan: Plan,
    stage: Stage,
    locked: Locked | None,
    deps: Mapping[str, str | None],
) -> tuple[Reason, ...]:
    if locked is None:
        return (Reason("first_run"),)
    reasons: list[Reason] = []
    if locked.command != stage.command or set(locked.outs) != set(stage.outs):
        reasons.append(Reason("command"))
    if locked.deps.get(stage.spec_path) != deps[stage.spec_path]:
        reasons += _spec_reasons(project, plan, stage, locked.deps.get(stage.spec_path, ""))
    for path in stage.files:
        if locked.deps.get(path) != deps[path]:
            reasons.append(Reason("file", path, locked.deps.get(path), deps[path]))
    for role, path in stage.inputs.items():
        if deps[path] is None or locked.deps.get(path) != deps[path]:
            reasons.append(Reason("input", role, locked.deps.get(path), deps[path]))
    return tuple(reasons)


def _spec_reasons(project: Project, plan: Plan, stage: Stage, md5: str) -> list[Reason]:
    old = _old_spec(project, stage, md5)
    if old is None:
        return [Reason("key", "a key of its spec", "?", "?")]
    new = stage.spec()
    reasons: list[Reason] = []
    if old.get("epoch") != new["epoch"]:
        reasons.append(Reason("epoch", stage.kind, old.get("epoch"), new["epoch"]))
    for name, pair in _differences(old.get("packages", {}), new["packages"]).items():
        reasons.append(Reason("package", name, *pair))
    section = _SECTIONS.get(stage.kind, "")
    for key, pair in _differences(old.get("config", {}), new["config"]).items():
        named = _recipe_key(section, key, stage)
        reasons.append(Reason("key", named, *pair, where=plan.origins.get(named, "")))
    return reasons or [Reason("input", "folder")]


# Where a stage's config lies in the recipe, so that a reason names the key a person can edit.
_SECTIONS: Mapping[str, str] = {
    "base": "model",
    "data": "data",
    "train": "train",
    "evaluate": "eval",
}
_ELSEWHERE: Mapping[str, str] = {
    "task": "data.task",
    "label": "data.label",
    "num_threads": "train.num_threads",
    "precision": "train.precision",
}


def _recipe_key(section: str, key: str, stage: Stage) -> str:
    if stage.kind == "export":
        return f"target.{stage.name.removeprefix('export-')}.{key.removeprefix('target.')}"
    if stage.kind == "evaluate" and key in _ELSEWHERE:
        return _ELSEWHERE[key]
    if stage.kind == "report":
        return key.removeprefix("recipe.")
    return f"{section}.{key}" if section else key


def _old_spec(project: Project, stage: Stage, md5: str) -> dict[str, Any] | None:
    """The spec with which the stage last ran, from the spec file or the store of run specs."""
    store = project.scratch / SPEC_STORE / f"{md5}.json"
    for path in (project.root / stage.spec_path, store):
        if md5 and md5_file(path) == md5:
            try:
                spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            return spec
    return None


def _differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Leaves that differ between two JSON values: dotted key → (old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(old.keys() | new.keys()):
            below = f"{prefix}.{key}" if prefix else key
            found |= _differences(old.get(key), new.get(key), below)
        return found
    return {} if old == new else {prefix: (old, new)}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "…"
