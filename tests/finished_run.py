"""A project whose outputs are those of a finished run, small files in place of models.

Unlike ``pretend_run`` every output has the manifest that ``exec`` would have written, by the
fingerprint of the work, and what was measured can be read. Written by the rules of the runner and
of DVC, and not by the code that tests hold against it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from slmcompile.execution.sync import sync
from slmcompile.files import artifact
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.project import Project
from slmcompile.state.scratch import work_fingerprint

MEASURED = {"exact_match": 0.9, "perplexity": 1.25, "tokens_per_second": 100.0, "machine": "m"}


def finish(project: Project, plan: Plan, measured: dict[str, Any] | None = None) -> None:
    """Leaves everything as if every stage of ``plan`` had just run."""
    sync(project, [plan])
    hashes: dict[str, str] = {}
    locks: dict[str, dict[str, Any]] = {pipeline.name: {} for pipeline in plan.pipelines}
    for stage in plan.stages():
        for path in (*stage.metrics, *stage.plots):
            artifact.write_text(project.root / path, "{}\n")
        _make(project, plan, stage, measured or MEASURED)
        for path in (stage.spec_path, *stage.files, *stage.outs, *stage.inputs.values()):
            hashes[path] = _md5(project, project.root / path)
        locks[stage.pipeline][stage.name] = {
            "cmd": stage.command,
            "deps": [{"path": path, "hash": "md5", "md5": hashes[path]} for path in stage.deps],
            "outs": [
                {"path": path, "hash": "md5", "md5": hashes[path], "size": _size(project, path)}
                for path in stage.outs
            ],
        }
    for name, stages in locks.items():
        lock = project.pipelines / name / "dvc.lock"
        lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")


def _make(project: Project, plan: Plan, stage: Stage, measured: dict[str, Any]) -> None:
    manifests = {}
    for role, path in stage.inputs.items():
        full = project.root / path
        if full.is_dir():
            manifests[role] = artifact.verify(full)
        else:
            entry = {"size": full.stat().st_size, "sha256": artifact.sha256_file(full)}
            manifests[role] = {"files": {full.name: entry}}
    fingerprint = work_fingerprint(stage.spec(), manifests, plan.files)
    constant = KINDS[stage.kind].constant
    members = stage.config.get("members", ())
    with artifact.replacing(
        project.root / stage.out, stage.kind, {}, None if constant else fingerprint
    ) as out:
        if stage.kind == "train" and members:
            for member in members:
                with artifact.replacing(out / "adapters" / member, "train", {}, member) as part:
                    (part / "weights").write_text(f"{stage.address} {member}")
        elif stage.kind == "score":
            for member in members or [""]:
                artifacts = {"torch": measured, "base": {"exact_match": 0.0}}
                artifact.write_json(out / member / "metrics.json", {"artifacts": artifacts})
                artifact.write_json(out / member / "comparisons.json", {"comparisons": []})
        elif not constant:
            (out / "weights").write_text(stage.address)
            (out / "deeper").mkdir()
            (out / "deeper" / "more").write_text(stage.kind)
        else:
            (out / "passed").write_text("passed")
    if stage.kind == "gate":
        for path in (project.root / stage.out).iterdir():
            path.unlink()  # .dvcignore hides them, and a checkout brings none back


def _md5(project: Project, path: Path) -> str:
    """What DVC calls a file, or a folder; and the cache holds it."""
    if not path.is_dir():
        return _cached(project, path.read_bytes())
    listed = [
        {"md5": _cached(project, each.read_bytes()), "relpath": each.relative_to(path).as_posix()}
        for each in sorted(path.rglob("*"), key=lambda each: each.relative_to(path).as_posix())
        if each.is_file()
    ]
    return _cached(project, json.dumps(listed).encode(), ".dir")


def _cached(project: Project, data: bytes, suffix: str = "") -> str:
    md5 = hashlib.md5(data).hexdigest()
    path = project.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / f"{md5[2:]}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"{md5}{suffix}"


def _size(project: Project, path: str) -> int:
    full = project.root / path
    files = [each for each in full.rglob("*") if each.is_file()] if full.is_dir() else [full]
    return sum(each.stat().st_size for each in files)
