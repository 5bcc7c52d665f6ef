"""A project in the state that a run leaves, without running: outputs, cache, locks and specs.

Every output is a small file with its stage's fingerprint in it, so that equal work gives equal
bytes as it does in earnest. For tests of what is planned, never of what is made.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from slmcompile.execution.sync import sync
from slmcompile.plans.artifacts import ADAPTERS
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project
from slmcompile.state.specs import SPEC_STORE
from slmcompile.state.state import Cache, md5_file


def pretend_run(project: Project, plan: Plan, exact_match: float = 0.9) -> None:
    """Leaves everything as if every stage of ``plan`` had just run."""
    sync(project, [plan])
    fingerprints = plan.fingerprints()
    hashes: dict[str, str] = {}
    locks: dict[str, dict[str, Any]] = {pipeline.name: {} for pipeline in plan.pipelines}
    for stage in plan.stages():
        for path in (stage.spec_path, *stage.files):
            hashes[path] = md5_file(project.root / path) or ""
        hashes |= _folders(project, stage, fingerprints[stage.address])
        metrics = {"exact_match": exact_match}
        members = stage.config.get("members", ())
        for path in stage.metrics:
            text = json.dumps({"members": dict.fromkeys(members, metrics)} if members else metrics)
            hashes[path] = _file(project, path, text)
        for path in stage.plots:
            hashes[path] = _file(project, path, "{}\n")
        locks[stage.pipeline][stage.name] = {
            "cmd": stage.command,
            "deps": [{"path": path, "hash": "md5", "md5": hashes[path]} for path in stage.deps],
            "outs": [
                {"path": path, "hash": "md5", "md5": hashes[path], "size": _size(project, path)}
                for path in stage.outs
            ],
        }
        kept = project.scratch / SPEC_STORE / f"{hashes[stage.spec_path]}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(stage.spec_text(), encoding="utf-8")
    for name, stages in locks.items():
        lock = project.pipelines / name / "dvc.lock"
        lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")


def _folders(project: Project, stage: Stage, content: str) -> dict[str, str]:
    """Hashes of a stage's output folder and, of several adapters, of the folder of each."""
    several = stage.config.get("members", ()) if stage.kind == "train" else ()
    parts = [f"{ADAPTERS}/{member}" for member in several]
    made = [f"{part}/made" for part in parts] or ["made"]
    entries = [
        {"md5": _file(project, f"{stage.out}/{path}", f"{content} {path}"), "relpath": path}
        for path in sorted(made)
    ]
    md5 = f"{_cached(project, json.dumps(entries), '.dir')}.dir"
    cache = Cache(project)
    found = {f"{stage.out}/{part}": cache.part(md5, part) or "" for part in parts}
    return {stage.out: md5, **found}


def _file(project: Project, path: str, text: str) -> str:
    full = project.root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text(text, encoding="utf-8")
    return _cached(project, text)


def _size(project: Project, path: str) -> int:
    full = project.root / path
    inside = full.rglob("made") if full.is_dir() else [full]
    return sum(each.stat().st_size for each in inside)


def _cached(project: Project, text: str, suffix: str = "") -> str:
    md5 = hashlib.md5(text.encode()).hexdigest()
    path = project.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / f"{md5[2:]}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return md5
