"""Which adapter a folder of a group's training holds: the manifest that says so.

Written by the program that trains, and once more outside of its container where code of the
project has run in that.
"""

from __future__ import annotations

from pathlib import Path

from slmcompile.files.artifact import sha256_file, write_manifest
from slmcompile.plans.artifacts import ADAPTERS
from slmcompile.plans.definition import of_member
from slmcompile.stages.context import Context
from slmcompile.stages.lineage import lineage
from slmcompile.state.scratch import member_fingerprint


def identities(context: Context) -> dict[str, str]:
    """Of each adapter that the stage trains, by its name; empty where it trains a single one."""
    read = context.spec.get("files", ())
    files = {path: sha256_file(context.project / path) for path in read}
    return {
        name: member_fingerprint(context.spec, name, of_member(context.manifests, name), files)
        for name in context.config.get("members", ())
    }


def adapter_folder(context: Context, name: str) -> Path:
    """Where one of a group is written."""
    return context.out / ADAPTERS / name


def sign(context: Context, folder: Path, identity: str) -> None:
    """Says of a whole adapter whose it is, and from what it was made."""
    write_manifest(folder, "train", dict(lineage(context)), identity)
