"""Check 24: training goes on only from a checkpoint of the very same work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.files.artifact import MANIFEST
from slmcompile.plans.definition import Stage
from slmcompile.state.scratch import scratch_folder, work_fingerprint


@check(
    24,
    "resumes-own-work",
    "training goes on from the checkpoint of other data or settings and nobody can tell",
    code=Exit.CORRUPT,
)
def resumes_own_work(context: CheckContext) -> Verdict:
    """Every checkpoint that this plan's training would find carries its own fingerprint.

    The checkpoints' folder is named by the work, and training looks again before it resumes; here
    a copied or renamed one is found before anything runs.
    """
    plan = context.compiled
    if not _folders(context.project.scratch / "scratch", "*"):
        return proved("no checkpoints here: training starts at step 0")
    train = plan.stage("train")
    fingerprint = _fingerprint(context, train)
    if fingerprint is None:
        return needs_probe(train.address, "the inputs that a checkpoint must belong to")
    folder = scratch_folder(context.project, fingerprint)
    steps = _folders(folder, "step-????????")
    for path in steps:
        found = _identity(path)
        # One without a readable manifest is damaged; training sets it aside and says so.
        if found is not None and found != fingerprint:
            return refuted(
                f"{context.project.shown(path)} belongs to run {found[:16]}, not to"
                f" {fingerprint[:16]}",
                f"remove {context.project.shown(folder)} and run again",
            )
    if not steps:
        return proved(f"no checkpoint of this work ({fingerprint[:16]}): step 0")
    return proved(f"goes on from {steps[-1].name}, whose fingerprint is {fingerprint[:16]}")


def _fingerprint(context: CheckContext, train: Stage) -> str | None:
    """What training will call its work; None while its inputs are not as the plan wants them."""
    if context.model is None or context.data is None:
        return None
    manifests: dict[str, Mapping[str, Any]] = {}
    for role, path in train.inputs.items():
        manifest = _json(context.project.root / path / MANIFEST)
        if manifest is None or "files" not in manifest:
            return None
        manifests[role] = manifest
    return work_fingerprint(train.spec(), manifests, context.compiled.files)


def _identity(checkpoint: Path) -> str | None:
    info = (_json(checkpoint / MANIFEST) or {}).get("info")
    identity = info.get("identity") if isinstance(info, Mapping) else None
    return identity if isinstance(identity, str) else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _folders(where: Path, pattern: str) -> list[Path]:
    """Folders by name; checkpoints are numbered with leading zeros."""
    return sorted(path for path in where.glob(pattern) if path.is_dir())
