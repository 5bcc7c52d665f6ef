"""What DVC remembers: lock files, the cache and the run-cache, read without importing DVC.

The formats are DVC 3's: ``dvc.lock`` (schema 2.0), ``files/md5`` objects and ``runs`` entries
keyed by SHA-256 of a stage's command, dependencies and output paths
(``dvc/stage/cache.py``, 3.67.1).
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from slmcompile.console.errors import CorruptError, RefusedError, SlmcompileError
from slmcompile.files.file_hash import file_hash
from slmcompile.files.memo import Remembered
from slmcompile.files.safe_read import check_inside, read_json, read_or_none, read_regular
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.project import Project

_MAX_CONFIG = 256 << 10
_MAX_PATH = 512
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_WRONG = (SlmcompileError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of reading a file as what it is not."""

EMPTY_FOLDER = "d751713988987e9331980363e24189ce.dir"
"""MD5 of a folder without files, as DVC counts them: a gate's, below which ``.dvcignore`` hides
what lies there, so that it is the same folder for any number of recipes."""

_MOST_FILES = 10_000
"""Looked at in an output whose names the cache does not tell."""

_PROTECTED = 0o444
"""Mode of the objects that DVC has write-protected (``LocalHashFileDB.CACHE_MODE``)."""


@dataclass(frozen=True)
class Locked:
    """One stage as DVC last saw it succeed: its command, the MD5 of every path, bytes of outs."""

    command: str
    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


_locks: Remembered[dict[str, Locked]] = Remembered(most_bytes=32 << 20)


def read_lock(project: Project, pipeline: str) -> dict[str, Locked]:
    """Stages of one ``dvc.lock`` by name; empty if there is none.

    Raises:
        CorruptError: the file is not a DVC lock file (exit 74).
    """
    folder = f"pipelines/{pipeline}"
    check_inside(project.root, f"{folder}/plan", f"{folder}/plan")
    data = read_regular(project.root, f"{folder}/dvc.lock", f"{folder}/dvc.lock", MAX_BYTES)
    if data is None:
        return {}
    key = hashlib.sha256(data).digest()
    known = _locks.get(key)
    if known is None:
        known = parse_lock(data, pipeline)
        _locks.put(key, known)
    return known


def parse_lock(data: bytes, pipeline: str) -> dict[str, Locked]:
    """Stages by name out of the bytes of a ``dvc.lock``, read with the limits of a recipe.

    Raises:
        CorruptError: they are not a DVC lock file (exit 74).
    """
    shown = f"pipelines/{pipeline}/dvc.lock"
    try:
        stages = _yaml(data, shown).get("stages") or {}
        return {name: _locked(entry) for name, entry in stages.items()}
    except _WRONG as error:
        raise CorruptError(
            f"{shown}: not a DVC lock file",
            "take the committed one (`git checkout` it) or remove it and run again",
        ) from error


def is_cut(data: bytes) -> bool:
    """Whether the bytes of a ``dvc.lock`` end before DVC was at their end.

    Its last line may be whole. What is no YAML at all, such as git's marks of a conflict, is not
    cut but somebody's to mend.
    """
    if not data.endswith(b"\n"):
        return True
    try:
        found = _yaml(data, "")
    except SlmcompileError:
        return False
    try:
        stages = [_locked(entry) for entry in found["stages"].values()]
    except _WRONG:
        return True
    return not all(stage.command and stage.outs for stage in stages)


def parse_stage(data: bytes) -> Locked | None:
    """What an entry of the run-cache or a ``.dvc`` file says; None if the bytes are neither."""
    try:
        return _locked(_yaml(data, ""))
    except _WRONG:
        return None


def _yaml(data: bytes, shown: str) -> dict[str, Any]:
    # Here, as a stage's process hashes files and reads no YAML.
    from slmcompile.recipe.yaml_file import parse_yaml

    return parse_yaml(data, Path(shown), shown).content


def _locked(entry: Mapping[str, Any]) -> Locked:
    outs = entry.get("outs") or []
    return Locked(
        entry.get("cmd", ""),
        _hashes(entry.get("deps")),
        _hashes(outs),
        {out["path"]: out["size"] for out in outs if isinstance(out.get("size"), int)},
    )


def _hashes(entries: list[dict[str, Any]] | None, name: str = "path") -> dict[str, str]:
    """MD5 by path. Both become part of paths that are looked at, so neither may lead elsewhere.

    Raises:
        ValueError: one of them is not what it is called.
        LookupError, TypeError: the entries have another form.
    """
    found: dict[str, str] = {}
    for entry in entries or []:
        path, md5 = entry[name], entry["md5"]
        if not isinstance(md5, str) or not _MD5.fullmatch(md5):
            raise ValueError("not an MD5")
        if not isinstance(path, str) or {"", ".", ".."} & set(path.split("/")):
            raise ValueError("not a path below a folder")
        found[path] = md5
    return found


def md5_file(path: Path) -> str | None:
    """MD5 of a file as DVC computes it; None if there is no such regular file."""
    try:
        return file_hash(path, "md5")
    except OSError:
        return None


def md5_text(text: str) -> str:
    """MD5 that a file holding ``text`` will have."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class Cache:
    """DVC's local cache, for looking only and for one look."""

    def __init__(self, project: Project) -> None:
        self.root = _cache_dir(project)
        self._folders: dict[str, dict[str, str] | None] = {}
        self._looks: dict[str, os.stat_result | None] = {}

    def has(self, md5: str, size: int | None = None) -> bool:
        """Whether DVC would bring an object back; a folder with every file of it.

        DVC takes a write-protected object on trust and reads any other; of those their ``size``
        is compared here, as ``dvc.lock`` has it.
        """
        entries = self.folder(md5) if md5.endswith(".dir") else {"": md5}
        if entries is None:
            return False
        found = [each for each in map(self.look, entries.values()) if each is not None]
        if len(found) < len(entries):
            return False
        trusted = all(stat.S_IMODE(each.st_mode) == _PROTECTED for each in found)
        return trusted or size is None or sum(each.st_size for each in found) == size

    def folder(self, md5: str) -> dict[str, str] | None:
        """MD5 of every file of a folder object, by relative path; read once."""
        if md5 not in self._folders:
            try:
                entries = read_json(self.root, object_path(md5))
                self._folders[md5] = None if entries is None else _hashes(entries, "relpath")
            except _WRONG:
                self._folders[md5] = None
        return self._folders[md5]

    def part(self, md5: str, path: str) -> str | None:
        """DVC's hash of a folder within a folder that the cache holds; None where it has none.

        That is the MD5 of the entries below it, as ``dvc_data`` writes them (3.18, ``Tree``).
        """
        entries = self.folder(md5)
        below = {
            name[len(path) + 1 :]: each
            for name, each in (entries or {}).items()
            if name.startswith(f"{path}/")
        }
        if not below:
            return None
        listed = [{"md5": below[name], "relpath": name} for name in sorted(below)]
        return f"{md5_text(json.dumps(listed, sort_keys=True))}.dir"

    def has_all(self, locked: Locked) -> bool:
        """Whether DVC would bring back everything that a stage wrote."""
        return all(self.has(md5, locked.sizes.get(path)) for path, md5 in locked.outs.items())

    def remembered_run(
        self, command: str, deps: Mapping[str, str], outs: tuple[str, ...]
    ) -> Mapping[str, str] | None:
        """Output hashes of an earlier run with this command and inputs, if all are in the cache."""
        key = _run_key(command, deps, outs)
        folder = f"runs/{key[:2]}/{key}"
        try:
            if check_inside(self.root, folder, folder) is None:
                return None
            kept = (self.root / folder).iterdir()
            newest = max(kept, key=lambda path: path.lstat().st_mtime, default=None)
        except (OSError, RefusedError):
            return None
        data = newest and read_or_none(self.root, f"{folder}/{newest.name}", MAX_BYTES)
        found = parse_stage(data) if data else None
        if found is None or found.outs.keys() != set(outs) or not self.has_all(found):
            return None
        return found.outs

    def look(self, md5: str) -> os.stat_result | None:
        """Facts of an object's file, looked at once; None if there is none.

        The cache may lie anywhere, as projects may share one, but what is in it is no link.
        """
        if md5 not in self._looks:
            try:
                found = check_inside(self.root, object_path(md5), "")
            except RefusedError:
                found = None
            self._looks[md5] = found if found and stat.S_ISREG(found.st_mode) else None
        return self._looks[md5]

    def blob(self, md5: str) -> Path:
        """Where an object lies, if the cache has it."""
        return self.root / object_path(md5)


def is_folder_object(name: object) -> bool:
    """Whether it can be DVC's name of a folder's object; whatever is not becomes no path."""
    return isinstance(name, str) and name.endswith(".dir") and bool(_MD5.fullmatch(name))


def object_path(md5: str) -> str:
    """Where an object lies below the cache's folder."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _run_key(command: str, deps: Mapping[str, str], outs: tuple[str, ...]) -> str:
    """DVC's ``_get_stage_hash``: the lock entry with hashes for deps and paths alone for outs."""
    entry = {
        "cmd": command,
        "deps": [{"path": path, "hash": "md5", "md5": deps[path]} for path in sorted(deps)],
        "outs": sorted(outs),
    }
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _cache_dir(project: Project) -> Path:
    """``cache.dir`` of DVC's config, relative to the ``.dvc`` folder."""
    folder = _configured(project, "cache", "dir") or "cache"
    if len(folder) > _MAX_PATH or "\0" in folder:
        raise RefusedError(
            f".dvc/config: cache.dir: no path of at most {_MAX_PATH} characters",
            "run `dvc cache dir --unset`",
        )
    return project.root / ".dvc" / folder


def default_remote(project: Project) -> str | None:
    """``core.remote`` of the project's DVC config."""
    return _configured(project, "core", "remote")


def _configured(project: Project, section: str, option: str) -> str | None:
    """An option of the project's DVC config, local settings first."""
    parser = configparser.RawConfigParser()
    for name in (".dvc/config", ".dvc/config.local"):
        data = read_regular(project.root, name, name, _MAX_CONFIG)
        try:
            parser.read_string((data or b"").decode(), name)
        except (configparser.Error, UnicodeDecodeError) as error:
            raise CorruptError(
                f"{name}: not a DVC config", "take the committed one (`git checkout` it)"
            ) from error
    return parser.get(section, option, fallback="").strip("'\"") or None


Here = Literal["intact", "missing", "changed"]


def here(project: Project, cache: Cache, locked: Locked, path: str) -> Here:
    """Whether an output lies in the workspace as its stage left it.

    A single file is a small one, under git, and is read. Of a folder names and the sum of sizes
    are compared, which a changed file of the same size passes: its bytes are DVC's and the
    manifests' to prove.
    """
    try:
        check_inside(project.root, path, path)
    except RefusedError:
        return "missing"  # behind a link may lie anything
    full, md5 = project.root / path, locked.outs[path]
    if not md5.endswith(".dir"):
        found = md5_file(full)
        return "missing" if found is None else "intact" if found == md5 else "changed"
    if md5 == EMPTY_FOLDER:
        return "intact" if full.is_dir() else "missing"
    names = cache.folder(md5)
    most = _MOST_FILES if names is None else len(names)
    sizes = dict(islice(_sizes(full), most + 1))  # where a stranger's link leads may have no end
    if len(sizes) > most:
        return "changed"
    if not sizes or (names is not None and names.keys() != sizes.keys()):
        return "missing"
    total = sum(sizes.values())
    return "intact" if total == locked.sizes.get(path, total) else "changed"


def _sizes(folder: Path, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Bytes of every file below a folder, by relative path; nothing if there is no folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(folder / entry.name, f"{name}/")
                else:
                    yield name, entry.stat().st_size
    except OSError:
        return
