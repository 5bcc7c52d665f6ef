"""The specs with which stages ran before: from the spec file, the store of run specs, or git.

Reads and compares specs; what a difference means is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from slmcompile.pipeline.state import Locked, md5_file
from slmcompile.planning.definition import Plan, Stage
from slmcompile.project import Project

SPEC_STORE = "specs"
"""Folder below ``.slmcompile`` with the spec of every stage that ran here, named by its MD5."""

_SHARED_OUT = re.compile(r"outputs/((base|data)-[0-9a-f]{8})")


def old_spec(
    project: Project, stage: Stage, md5: str, *, history: bool = False
) -> dict[str, Any] | None:
    """The spec with this MD5 that a stage last ran from; ``history`` also asks git."""
    if not md5:
        return None
    store = project.scratch / SPEC_STORE / f"{md5}.json"
    for path in (project.root / stage.spec_path, store):
        if md5_file(path) == md5:
            return _parsed(path.read_text(encoding="utf-8"))
    if history:
        from slmcompile.revision import find_version

        found = find_version(project.root, stage.spec_path, md5)
        return _parsed(found[1].decode("utf-8", "replace")) if found else None
    return None


def replaced_spec(
    project: Project,
    plan: Plan,
    stage: Stage,
    locks: Mapping[str, Mapping[str, Locked]],
    *,
    history: bool = False,
) -> dict[str, Any] | None:
    """The spec of the shared stage that stood in this one's place when its users last ran.

    A shared stage lies in a folder named by what it does, so another key makes it another stage;
    the specs of its users say which folder they read before.
    """
    if not _SHARED_OUT.fullmatch(stage.out):
        return None
    for user in plan.stages():
        for role, address in user.input_stages.items():
            locked = locks.get(user.pipeline, {}).get(user.name)
            if address != stage.address or locked is None:
                continue
            spec = old_spec(project, user, locked.deps.get(user.spec_path, ""), history=history)
            before = (spec or {}).get("inputs", {}).get(role)
            if before and before != stage.out:
                return _spec_that_wrote(project, str(before), history=history)
    return None


def _spec_that_wrote(project: Project, out: str, *, history: bool) -> dict[str, Any] | None:
    parsed = _SHARED_OUT.fullmatch(out)
    if parsed is None:
        return None
    pipeline, kind = parsed.groups()
    relative = f"pipelines/{pipeline}/plan/{kind}.json"
    path = project.root / relative
    if path.is_file():
        return _parsed(path.read_text(encoding="utf-8"))
    name = f'"stage": "{pipeline}/{kind}"'
    for kept in (project.scratch / SPEC_STORE).glob("*.json"):
        text = kept.read_text(encoding="utf-8")
        if name in text:
            return _parsed(text)
    if history:
        from slmcompile.revision import history as revisions

        for revision in revisions(project.root, relative, 5):
            committed = revision.text(relative)
            if committed is not None:
                return _parsed(committed)
    return None


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Leaves that differ between two JSON values: dotted key → (old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(old.keys() | new.keys()):
            below = f"{prefix}.{key}" if prefix else key
            found |= differences(old.get(key), new.get(key), below)
        return found
    return {} if old == new else {prefix: (old, new)}


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        spec = json.loads(text)
    except ValueError:
        return None
    return spec if isinstance(spec, dict) else None
