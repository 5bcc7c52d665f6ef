"""What a piece of work is called, and where a stage keeps what it needs to go on with it.

The name is made of the stage's identity and of the bytes of its inputs, so that checkpoints and
results of other work are never found, let alone continued or taken.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slmcompile.plans.canonical import digest
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.names import (
    content_names,
    identity_of_member,
    names_of_member,
    without_names,
)
from slmcompile.recipe.project import Project

_IDENTITY = ("schema", "kind", "epoch", "packages")


def work_fingerprint(
    spec: Mapping[str, Any],
    manifests: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, str],
) -> str:
    """SHA-256 of a spec's identity and of all that it reads, as 64 hex digits.

    Args:
        spec: a stage's spec.
        manifests: the manifest of every input, by role.
        files: SHA-256 of the project files that the spec lists, by path.
    """
    names, read = spec.get("names", ()), spec.get("files", ())
    shown = KINDS[spec["kind"]].whole_recipe
    inputs = {
        role: {
            name: [entry["size"], entry["sha256"]]
            for name, entry in manifest["files"].items()
            if shown or role not in KINDS or name not in KINDS[role].for_people
        }
        for role, manifest in manifests.items()
    }
    return digest(
        {
            **{key: spec[key] for key in _IDENTITY},
            **({"epochs": spec["epochs"]} if "epochs" in spec else {}),
            "config": without_names(spec["config"], names),
            "files": [
                [name, files[path]] for path, name in content_names(spec["config"], names, read)
            ],
            "inputs": inputs,
        }
    )


def alone(name: str, data: bytes) -> dict[str, Any]:
    """An input that is a file, in a manifest's form."""
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {"files": {name: entry}}


def member_fingerprint(
    spec: Mapping[str, Any],
    member: str,
    manifests: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, str],
) -> str:
    """The same of what one adapter of a ``train`` stage learns, whoever is beside it.

    In isolation that is what it learns alone, to the byte, and so the same work.

    Args:
        spec: of the stage that trains several.
        member: one of them.
        manifests: of what it reads, by the role that it has in a training alone.
        files: SHA-256 of the project files that the spec lists, by path.
    """
    given = spec.get("names", ()), spec.get("files", ())
    names, read = names_of_member(spec["config"], *given, member)
    alone = {**identity_of_member(spec, member), "names": names, "files": read}
    return work_fingerprint(alone, manifests, files)


FINISHED = "finished"
"""The folder, in an adapter's scratch folder, that holds what it has learnt."""


def scratch_beside(folder: Path, fingerprint: str) -> Path:
    """The folder of another piece of work, given one's."""
    return folder.with_name(fingerprint[:16])


def forget_adapters(project: Project, seconds: float) -> None:
    """Gives up what adapters have learnt that no training has wanted for so long."""
    for folder in (project.scratch / "scratch").glob(f"*/{FINISHED}"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > seconds:
                shutil.rmtree(folder.parent, ignore_errors=True)


def scratch_folder(project: Project, fingerprint: str) -> Path:
    """The ignored folder of one stage's work."""
    return project.scratch / "scratch" / fingerprint[:16]
