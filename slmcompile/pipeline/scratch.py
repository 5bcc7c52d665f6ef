"""Where a stage keeps what it needs to go on after an interruption: a folder named by its work.

The name is made of the stage's identity and of the bytes of its inputs, so that checkpoints of
other work are never found, let alone continued.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmcompile.planning.canonical import digest
from slmcompile.project import Project

_IDENTITY = ("schema", "kind", "epoch", "config", "packages")


def work_fingerprint(spec: Mapping[str, Any], manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 of a spec's identity and of its inputs' files, as 64 hex digits.

    Args:
        spec: a stage's spec.
        manifests: the manifest of every input that is a folder, by role.
    """
    files = {role: manifest["files"] for role, manifest in manifests.items()}
    return digest({**{key: spec[key] for key in _IDENTITY}, "inputs": files})


def scratch_folder(project: Project, fingerprint: str) -> Path:
    """The ignored folder of one stage's work."""
    return project.scratch / "scratch" / fingerprint[:16]
