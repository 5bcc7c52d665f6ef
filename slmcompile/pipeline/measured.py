"""Committed metrics, where they were measured for exactly a given plan.

``pipelines/R/metrics/*.json`` stay behind when a recipe is edited and not run. Metrics count for a
plan only if the lock files say that they, and everything they were made from, ran with the plan's
keys and bytes. Package versions and epochs may differ: an old measurement stays a measurement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from slmcompile.pipeline.state import Locked, md5_file, md5_text, parse_lock
from slmcompile.planning.canonical import canonical_json
from slmcompile.planning.definition import Plan, Stage
from slmcompile.project import Project


class Tree(Protocol):
    """A working tree or a revision: project files by relative path."""

    def text(self, path: str) -> str | None:
        """A small file's text; None if there is none."""
        ...

    def md5(self, path: str) -> str | None:
        """A file's MD5; None if it is not there."""
        ...


class WorkingTree:
    """The files of a project as they are now."""

    def __init__(self, project: Project) -> None:
        self._root = project.root

    def text(self, path: str) -> str | None:
        """A file's text; None if there is none or it is not UTF-8."""
        try:
            return (self._root / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def md5(self, path: str) -> str | None:
        """A file's MD5; None if it is not there."""
        return md5_file(self._root / path)


def measured_metrics(
    plan: Plan, tree: Tree
) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """Metrics by artifact, and the artifacts whose metrics belong to another plan."""
    stages = {stage.address: stage for stage in plan.stages()}
    locks = {pipeline.name: _lock(tree, pipeline.name) for pipeline in plan.pipelines}
    ran: dict[str, bool] = {}
    for address, stage in stages.items():
        above = {role: stages[made] for role, made in stage.input_stages.items()}
        ran[address] = all(ran[made.address] for made in above.values()) and _ran_so(
            stage, above, locks, tree
        )
    found: dict[str, Mapping[str, Any]] = {}
    others: list[str] = []
    for stage in plan.own.stages:
        text = tree.text(stage.metrics) if stage.kind == "evaluate" and stage.metrics else None
        if text is None:
            continue
        locked = locks[stage.pipeline].get(stage.name)
        if (
            not ran[stage.address]
            or not locked
            or locked.outs.get(str(stage.metrics)) != md5_text(text)
        ):
            others.append(stage.name.removeprefix("evaluate-"))
            continue
        found |= _artifacts(text)
    return found, tuple(others)


def _artifacts(text: str) -> dict[str, Mapping[str, Any]]:
    listed = _object(text).get("artifacts")
    if not isinstance(listed, dict):
        return {}
    return {name: values for name, values in listed.items() if isinstance(values, dict)}


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _lock(tree: Tree, pipeline: str) -> dict[str, Locked]:
    text = tree.text(f"pipelines/{pipeline}/dvc.lock")
    return parse_lock(text, pipeline) if text else {}


def _ran_so(
    stage: Stage, above: Mapping[str, Stage], locks: Mapping[str, Mapping[str, Locked]], tree: Tree
) -> bool:
    """Whether a stage last ran with its plan's keys, on these files and on these inputs."""
    locked = locks[stage.pipeline].get(stage.name)
    text = tree.text(stage.spec_path)
    if locked is None or text is None or locked.deps.get(stage.spec_path) != md5_text(text):
        return False
    if canonical_json(_object(text).get("config")) != canonical_json(dict(stage.config)):
        return False
    if any(locked.deps.get(path) != tree.md5(path) for path in stage.files):
        return False
    return all(
        locked.deps.get(stage.inputs[role])
        == locks[made.pipeline][made.name].outs.get(stage.inputs[role])
        for role, made in above.items()
    )
