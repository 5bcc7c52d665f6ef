"""What DVC remembers: lock files, the cache and the run-cache, read without importing DVC.

The formats are DVC 3's: ``dvc.lock`` (schema 2.0), ``files/md5`` objects and ``runs`` entries
keyed by SHA-256 of a stage's command, dependencies and output paths
(``dvc/stage/cache.py``, 3.67.1).
"""

from __future__ import annotations

import configparser
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slmcompile.errors import CorruptError
from slmcompile.project import Project

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Locked:
    """One stage as DVC last saw it succeed: its command and the MD5 of every path."""

    command: str
    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)


def read_lock(project: Project, pipeline: str) -> dict[str, Locked]:
    """Stages of one ``dvc.lock`` by name; empty if there is none.

    Raises:
        CorruptError: the file is not a DVC lock file (exit 74).
    """
    path = project.pipelines / pipeline / "dvc.lock"
    if not path.is_file():
        return {}
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER) or {}  # noqa: S506 (a safe loader, in C)
        return {
            name: Locked(
                entry.get("cmd", ""), _hashes(entry.get("deps")), _hashes(entry.get("outs"))
            )
            for name, entry in (content.get("stages") or {}).items()
        }
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise CorruptError(
            f"pipelines/{pipeline}/dvc.lock: not a DVC lock file",
            "take the committed one (`git checkout` it) or remove it and run again",
        ) from error


def _hashes(entries: list[dict[str, Any]] | None) -> dict[str, str]:
    return {entry["path"]: entry.get("md5", "") for entry in entries or []}


def md5_file(path: Path) -> str | None:
    """MD5 of a file as DVC computes it; None if there is no such file."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return None
    return digest.hexdigest()


def md5_text(text: str) -> str:
    """MD5 that a file holding ``text`` will have."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class Cache:
    """DVC's local cache, for looking only."""

    def __init__(self, project: Project) -> None:
        self.root = _cache_dir(project)

    def has(self, md5: str) -> bool:
        """Whether the cache holds an object; of a folder, every file of it."""
        path = self._object(md5)
        if not path.is_file():
            return False
        if not md5.endswith(".dir"):
            return True
        entries = self.folder(md5)
        return entries is not None and all(
            self._object(below).is_file() for below in entries.values()
        )

    def folder(self, md5: str) -> dict[str, str] | None:
        """MD5 of every file of a folder object, by relative path."""
        try:
            entries = json.loads(self._object(md5).read_text(encoding="utf-8"))
            return {entry["relpath"]: entry["md5"] for entry in entries}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remembered_run(
        self, command: str, deps: Mapping[str, str], outs: tuple[str, ...]
    ) -> dict[str, str] | None:
        """Output hashes of an earlier run with this command and inputs, if all are in the cache."""
        key = _run_key(command, deps, outs)
        folder = self.root / "runs" / key[:2] / key
        if not folder.is_dir():
            return None
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime, default=None)
        if newest is None:
            return None
        try:
            entry = yaml.load(newest.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
            found = _hashes(entry["outs"])
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            return None
        return found if all(self.has(md5) for md5 in found.values()) else None

    def _object(self, md5: str) -> Path:
        return self.root / "files" / "md5" / md5[:2] / md5[2:]


def _run_key(command: str, deps: Mapping[str, str], outs: tuple[str, ...]) -> str:
    """DVC's ``_get_stage_hash``: the lock entry with hashes for deps and paths alone for outs."""
    entry = {
        "cmd": command,
        "deps": [{"path": path, "hash": "md5", "md5": deps[path]} for path in sorted(deps)],
        "outs": sorted(outs),
    }
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _cache_dir(project: Project) -> Path:
    """``cache.dir`` of DVC's config, local settings first; relative to the ``.dvc`` folder."""
    dvc = project.root / ".dvc"
    parser = configparser.ConfigParser()
    parser.read([dvc / "config", dvc / "config.local"], encoding="utf-8")
    configured = parser.get("cache", "dir", fallback="cache").strip("'\"")
    return dvc / configured


def present(project: Project, cache: Cache, path: str, md5: str) -> bool:
    """Whether an output lies in the workspace with the files it should have.

    Looks at names alone, as bytes are DVC's and the manifests' to prove.
    """
    full = project.root / path
    if not md5.endswith(".dir"):
        return full.is_file()
    entries = cache.folder(md5)
    if entries is None:
        return full.is_dir()
    return all((full / name).is_file() for name in entries)
