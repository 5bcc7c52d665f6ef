"""Committed metrics, where they were measured for exactly a given plan.

``pipelines/R/metrics/*.json`` stay behind when a recipe is edited and not run. Metrics count for a
plan only if the lock files say that they, and everything they were made from, ran with the plan's
keys and bytes. Package versions and epochs may differ: an old measurement stays a measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol

from slmcompile.files.safe_read import read_or_none
from slmcompile.plans.canonical import canonical_json
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project
from slmcompile.state.specs import parse_spec
from slmcompile.state.state import Cache, Locked, md5_file, md5_text, parse_lock

_MAX_TEXT = 4 << 20
_SOURCES = "sources"
"""Under it are the metrics of each of several sources of rows."""
_LARGEST = 1e300
"""No metric is as large; differences and percentages of smaller ones are finite."""


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
        """A small file's text; None if there is none, behind a link for one, or it is not UTF-8."""
        data = read_or_none(self._root, path, _MAX_TEXT)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError:
            return None

    def md5(self, path: str) -> str | None:
        """A file's MD5; None if it is not there."""
        return md5_file(self._root / path)


def measured_metrics(
    plan: Plan, tree: Tree, cache: Cache
) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """Metrics by artifact, and the artifacts whose metrics belong to another plan.

    A lock has one hash for all adapters of a training; ``cache`` knows that of each.
    """
    stages = {stage.address: stage for stage in plan.stages()}
    locks = {pipeline.name: _lock(tree, pipeline.name) for pipeline in plan.pipelines}
    ran: dict[str, bool] = {}
    for address, stage in stages.items():
        above = {role: stages[made] for role, made in stage.input_stages.items()}
        ran[address] = all(ran[made.address] for made in above.values()) and _ran_so(
            stage, above, locks, tree, cache
        )
    found: dict[str, Mapping[str, Any]] = {}
    others: list[str] = []
    for scored in plan.of("score"):
        locked = locks[scored.pipeline].get(scored.name)
        spec = tree.text(scored.spec_path)
        same = spec is not None and _same(parse_spec(spec), scored)
        written = same and locked and locked.deps.get(scored.spec_path) == md5_text(spec or "")
        for path in scored.metrics:
            name = PurePosixPath(path).stem
            text = tree.text(path)
            if text is None:
                continue
            whole = locked is not None and locked.outs.get(path) == md5_text(text)
            for member, answer in _answers(scored, name, stages).items():
                artifact = f"{member}: {name}" if member else name
                answered = locks[answer.pipeline].get(answer.name)
                sound = (
                    written
                    and whole
                    and locked
                    and answered
                    and ran[answer.address]
                    and locked.deps.get(answer.out) == answered.outs.get(answer.out)
                )
                if sound:
                    found |= _artifacts(text, name, member)
                else:
                    others.append(artifact)
    return found, tuple(others)


def _answers(scored: Stage, artifact: str, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The stages whose answers a metrics file is of: by member, one named "" of a plain recipe."""
    role = f"answer-{artifact}"
    return {
        name.removeprefix(role).removeprefix("--"): stages[made]
        for name, made in scored.input_stages.items()
        if name == role or name.startswith(f"{role}--")
    }


def _artifacts(text: str, artifact: str, member: str = "") -> dict[str, Mapping[str, Any]]:
    """Finite metrics of each artifact; a metrics file may be a stranger's.

    A file holds the metrics of its artifact; that of the baselines, and files before format 2
    under ``artifacts``, an object for each. Those of one of several sources bear its name. Of a
    recipe with adapters it holds all that for each under ``members``, and an artifact's name says
    whose it is.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    for key in ("members", member) if member else ():
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        return {}
    listed = value.get("artifacts", value)
    several = {
        name: values
        for name, values in (listed.items() if isinstance(listed, dict) else ())
        if isinstance(values, dict) and name != _SOURCES
    }
    return {
        f"{member}: {name}" if member else name: {
            metric: found for metric, found in _told(values) if _finite(found)
        }
        for name, values in (several or {artifact: value}).items()
    }


def _told(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Metrics, and behind them those of each source alone."""
    yield from values.items()
    sources = values.get(_SOURCES)
    for source, own in sources.items() if isinstance(sources, dict) else ():
        for metric, found in own.items() if isinstance(own, dict) else ():
            if not isinstance(found, bool):
                yield f"{metric} ({source})", found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < _LARGEST


def _lock(tree: Tree, pipeline: str) -> dict[str, Locked]:
    text = tree.text(f"pipelines/{pipeline}/dvc.lock")
    return parse_lock(text.encode(), pipeline) if text else {}


def _ran_so(
    stage: Stage,
    above: Mapping[str, Stage],
    locks: Mapping[str, Mapping[str, Locked]],
    tree: Tree,
    cache: Cache,
) -> bool:
    """Whether a stage last ran with its plan's keys, on these files and on these inputs."""
    locked = locks[stage.pipeline].get(stage.name)
    text = tree.text(stage.spec_path)
    if locked is None or text is None or locked.deps.get(stage.spec_path) != md5_text(text):
        return False
    if not _same(parse_spec(text), stage):
        return False
    if any(locked.deps.get(path) != tree.md5(path) for path in stage.files):
        return False
    return all(
        locked.deps.get(stage.inputs[role])
        == _output(locks[made.pipeline][made.name], made, stage.inputs[role], cache)
        for role, made in above.items()
    )


def _output(locked: Locked, made: Stage, path: str, cache: Cache) -> str | None:
    """Hash of a stage's output folder, or of a folder within it."""
    if path in locked.outs:
        return locked.outs[path]
    whole = locked.outs.get(made.out)
    return cache.part(whole, path.removeprefix(f"{made.out}/")) if whole else None


def _same(spec: Mapping[str, Any] | None, stage: Stage) -> bool:
    """Whether a spec has the stage's keys."""
    try:
        return spec is not None and canonical_json(spec.get("config")) == canonical_json(
            dict(stage.config)
        )
    except ValueError:
        return False  # NaN or an infinity, which no recipe holds
