"""The specs with which stages ran before: from the spec file, the store of run specs, or git.

Reads and compares specs; what a difference means is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from slmcompile.console.errors import RefusedError
from slmcompile.files.safe_read import check_inside, read_or_none
from slmcompile.plans.definition import Plan, Stage, shared_stage
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.limits import is_bounded
from slmcompile.recipe.project import Project
from slmcompile.state.state import Locked

SPEC_STORE = "specs"
"""Folder below ``.slmcompile`` with the spec of every stage that ran here, named by its MD5."""

_MAX_BYTES = 1 << 20
_LONGEST_ENTRY = 128
_MOST_EPOCH = 1_000_000
_MOST_KEPT = 10_000


def old_spec(
    project: Project, stage: Stage, md5: str, *, history: bool = False
) -> dict[str, Any] | None:
    """The spec with this MD5 that a stage last ran from; ``history`` also asks git."""
    if not md5:
        return None
    for path in (stage.spec_path, f".slmcompile/{SPEC_STORE}/{md5}.json"):
        data = read_or_none(project.root, path, _MAX_BYTES)
        if data and hashlib.md5(data, usedforsecurity=False).hexdigest() == md5:
            return parse_spec(data)
    if history:
        from slmcompile.files.revision import find_version

        found = find_version(project.root, stage.spec_path, md5, largest=_MAX_BYTES)
        return parse_spec(found[1]) if found else None
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
    if not shared_stage(stage.pipeline):
        return None
    for user in plan.stages():
        for role, address in user.input_stages.items():
            locked = locks.get(user.pipeline, {}).get(user.name)
            if address != stage.address or locked is None:
                continue
            spec = old_spec(project, user, locked.deps.get(user.spec_path, ""), history=history)
            before = (spec or {}).get("inputs", {}).get(role)
            if not isinstance(before, str) or before == stage.out:
                continue
            # Of another name is what another target's base was: it is not this one's place.
            if shared_stage(before.rpartition("/")[2]) == stage.name:
                return _spec_that_wrote(project, before, history=history)
    return None


def said_before(
    project: Project,
    plan: Plan,
    locks: Mapping[str, Mapping[str, Locked]],
    key: str,
    *,
    history: bool = False,
) -> str | None:
    """The name that the recipe gave at a dotted key when it was last written about, if it is known.

    For keys that name what a stage reads and are in no spec but that of the whole recipe.
    """
    for stage in plan.own.stages:
        locked = locks.get(stage.pipeline, {}).get(stage.name)
        if KINDS[stage.kind].whole_recipe and locked is not None:
            md5 = locked.deps.get(stage.spec_path, "")
            spec = old_spec(project, stage, md5, history=history) or {}
            value = spec.get("config", {}).get("recipe")
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            return value if isinstance(value, str) else None
    return None


def _spec_that_wrote(project: Project, out: str, *, history: bool) -> dict[str, Any] | None:
    folder, _, pipeline = out.rpartition("/")
    name = shared_stage(pipeline)
    if folder != "outputs" or not name:
        return None
    path = f"pipelines/{pipeline}/plan/{name}.json"
    there = read_spec(project, path)
    if there is not None:
        return there
    written = f'"stage": "{pipeline}/{name}"'.encode()
    for kept in _kept(project):
        if written in kept:
            return parse_spec(kept)
    if history:
        from slmcompile.files.revision import history as revisions

        for revision in revisions(project.root, path, 5):
            committed = revision.text(path)
            if committed is not None:
                return parse_spec(committed)
    return None


def _kept(project: Project) -> Iterator[bytes]:
    """The specs of stages that ran here."""
    store = f".slmcompile/{SPEC_STORE}"
    try:
        found = check_inside(project.root, store, store)
        if found is None:
            return
        with os.scandir(project.root / store) as entries:
            names = [entry.name for entry in islice(entries, _MOST_KEPT)]
    except (OSError, RefusedError):
        return
    for name in names:
        data = read_or_none(project.root, f"{store}/{name}", _MAX_BYTES)
        if data is not None:
            yield data


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Leaves that differ between two JSON values: dotted key → (old, new).

    A list is a leaf, unless its entries have names and there are as many of the same.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(old.keys() | new.keys()):
            below = f"{prefix}.{key}" if prefix else key
            found |= differences(old.get(key), new.get(key), below)
        return found
    if (names := _names(old)) and names == _names(new):
        found = {}
        for at, pair in enumerate(zip(old, new, strict=True)):
            found |= differences(*pair, f"{prefix}.{at}")
        return found
    return {} if old == new else {prefix: (old, new)}


def _names(value: Any) -> list[Any]:
    """The names of a list's entries; none where one of them has none."""
    if not isinstance(value, list):
        return []
    names = [entry.get("name") for entry in value if isinstance(entry, dict)]
    return names if len(names) == len(value) and all(names) else []


def read_spec(project: Project, path: str) -> dict[str, Any] | None:
    """A committed spec; None where there is none that can be used."""
    data = read_or_none(project.root, path, _MAX_BYTES)
    return None if data is None else parse_spec(data)


def parse_spec(text: str | bytes) -> dict[str, Any] | None:
    """A spec, which may be a stranger's; None for what no version of slmcompile has written."""
    if len(text) > _MAX_BYTES:
        return None
    try:
        spec = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(spec, dict) or not is_bounded(spec):
        return None
    parts = [spec.get(name, {}) for name in ("config", "packages", "inputs")]
    return spec if all(isinstance(part, dict) for part in parts) and _are_epochs(spec) else None


def _are_epochs(spec: dict[str, Any]) -> bool:
    """Whether the epochs of table entries, if a spec has any, are what they can be."""
    found = spec.get("epochs", {})
    return isinstance(found, dict) and all(
        len(name) <= _LONGEST_ENTRY and type(epoch) is int and 0 < epoch <= _MOST_EPOCH
        for name, epoch in found.items()
    )
