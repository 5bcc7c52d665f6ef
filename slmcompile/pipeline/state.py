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
from slmcompile.file_hash import file_hash
from slmcompile.project import Project
from slmcompile.regular_file import check_inside, read_regular
from slmcompile.remembered import Remembered

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_LOCK = 16 << 20
_MAX_CONFIG = 256 << 10


@dataclass(frozen=True)
class Locked:
    """One stage as DVC last saw it succeed: its command and the MD5 of every path."""

    command: str
    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)


_locks: Remembered[dict[str, Locked]] = Remembered(kept=4096)


def read_lock(project: Project, pipeline: str) -> dict[str, Locked]:
    """Stages of one ``dvc.lock`` by name; empty if there is none.

    Raises:
        CorruptError: the file is not a DVC lock file (exit 74).
    """
    folder = f"pipelines/{pipeline}"
    check_inside(project.root, f"{folder}/plan", f"{folder}/plan")
    data = read_regular(project.root, f"{folder}/dvc.lock", f"{folder}/dvc.lock", _MAX_LOCK)
    if data is None:
        return {}
    key = hashlib.sha256(data).digest()
    known = _locks.get(key)
    if known is None:
        try:
            known = parse_lock(data.decode(), pipeline)
        except UnicodeDecodeError as error:
            raise _no_lock(pipeline) from error
        _locks.put(key, known)
    return known


def parse_lock(text: str, pipeline: str) -> dict[str, Locked]:
    """Stages by name out of the text of a ``dvc.lock``.

    Raises:
        CorruptError: the text is not a DVC lock file (exit 74).
    """
    try:
        content = yaml.load(text, Loader=_LOADER) or {}  # noqa: S506 (a safe loader, in C)
        return {
            name: Locked(
                entry.get("cmd", ""), _hashes(entry.get("deps")), _hashes(entry.get("outs"))
            )
            for name, entry in (content.get("stages") or {}).items()
        }
    except (
        yaml.YAMLError,
        AttributeError,
        KeyError,
        TypeError,
        RecursionError,
        ValueError,
    ) as error:
        raise _no_lock(pipeline) from error


def _no_lock(pipeline: str) -> CorruptError:
    return CorruptError(
        f"pipelines/{pipeline}/dvc.lock: not a DVC lock file",
        "take the committed one (`git checkout` it) or remove it and run again",
    )


def _hashes(entries: list[dict[str, Any]] | None) -> dict[str, str]:
    return {entry["path"]: entry.get("md5", "") for entry in entries or []}


def md5_file(path: Path) -> str | None:
    """MD5 of a file as DVC computes it; None if there is no such file."""
    try:
        return None if path.is_symlink() else file_hash(path, "md5")
    except OSError:
        return None


def md5_text(text: str) -> str:
    """MD5 that a file holding ``text`` will have."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class Cache:
    """DVC's local cache, for looking only."""

    def __init__(self, project: Project) -> None:
        self.root = _cache_dir(project)

    def has(self, md5: str) -> bool:
        """Whether the cache holds an object; of a folder, every file of it."""
        path = self.blob(md5)
        if not path.is_file():
            return False
        if not md5.endswith(".dir"):
            return True
        entries = self.folder(md5)
        return entries is not None and all(self.blob(below).is_file() for below in entries.values())

    def folder(self, md5: str) -> dict[str, str] | None:
        """MD5 of every file of a folder object, by relative path."""
        try:
            entries = json.loads(self.blob(md5).read_text(encoding="utf-8"))
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

    def blob(self, md5: str) -> Path:
        """Where an object lies, if the cache has it."""
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
    parser = configparser.RawConfigParser()
    for name in (".dvc/config", ".dvc/config.local"):
        data = read_regular(project.root, name, name, _MAX_CONFIG)
        try:
            parser.read_string((data or b"").decode(), name)
        except (configparser.Error, UnicodeDecodeError) as error:
            raise CorruptError(
                f"{name}: not a DVC config", "take the committed one (`git checkout` it)"
            ) from error
    configured = parser.get("cache", "dir", fallback="cache").strip("'\"")
    return project.root / ".dvc" / configured


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
