"""A recipe as it was at a git revision, compiled without a checkout.

The revision's recipes and groups, and the files that the recipe names, are written into a
temporary folder as git stores them (no filter runs); there the recipe compiles as any other. The
built-in groups and the installed packages stay today's.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from slmcompile.artifact import saying_what_is_missing
from slmcompile.errors import RefusedError, SlmcompileError
from slmcompile.lock.file import MAX_BYTES as MAX_LOCK_BYTES
from slmcompile.lock.file import NAME as LOCK
from slmcompile.lock.pin import pin
from slmcompile.pipeline.state import Cache
from slmcompile.planning.builder import build
from slmcompile.planning.definition import Plan
from slmcompile.project import Project
from slmcompile.recipe.compose import compose
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.revision import Entry, Revision

_MD5 = re.compile(r"[0-9a-f]{32}")
_MOST_FILES = 20_000
_MOST_BYTES = 64 * 1024 * 1024
_LFS = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})"
)


@dataclass(frozen=True)
class PastPlan:
    """A recipe's plan at a revision.

    Attributes:
        revision: where it was read from.
        plan: the plan; None if there was no such recipe yet.
        borrowed: files that the revision does not hold, so that today's bytes stand in for them.
    """

    revision: Revision
    plan: Plan | None
    borrowed: tuple[str, ...] = ()


def plan_at(
    project: Project, revision: Revision, name: str, overrides: Sequence[str] = ()
) -> PastPlan:
    """Compiles ``recipes/<name>.yaml`` as it was at ``revision``.

    Raises:
        SlmcompileError: the recipe does not compile there; the message begins with the revision.
    """
    entries = revision.entries(".")
    if f"recipes/{name}.yaml" not in entries:
        return PastPlan(revision, None)
    with tempfile.TemporaryDirectory(prefix="slmcompile-") as folder:
        there = Project(Path(folder).resolve())
        try:
            with saying_what_is_missing(there.root):
                _write_recipes(revision, entries, there)
                composed = pin(there, compose(there, name, overrides))
                borrowed = tuple(
                    path
                    for path in dict.fromkeys(_named(composed.recipe.model_dump(mode="json")))
                    if not _bring(project, revision, entries, path, there)
                )
            plan = build(there, composed)
        except SlmcompileError as error:
            raise SlmcompileError(
                f"{revision.shown}: {error.what}", error.mend, code=error.code
            ) from error
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise RefusedError(
                f"{revision.shown}: one path is a file and a folder", "do not trust this revision"
            ) from error
        files = {path: _content_hash(there.root / path, sha) for path, sha in plan.files.items()}
        kept = tuple(
            path
            for path in borrowed
            if any(used == path or used.startswith(f"{path}/") for used in files)
        )
        return PastPlan(revision, replace(plan, files=files), kept)


def _write_recipes(revision: Revision, entries: Mapping[str, Entry], there: Project) -> None:
    there.recipes.mkdir()
    wanted = {
        path: entry
        for path, entry in entries.items()
        if path == LOCK or (path.startswith(("recipes/", "conf/")) and path.endswith(".yaml"))
    }
    small = {path: entry for path, entry in wanted.items() if entry.size <= _limit(path)}
    if len(wanted) > _MOST_FILES or sum(entry.size for entry in small.values()) > _MOST_BYTES:
        raise RefusedError(
            f"recipes and groups of more than {_MOST_FILES} files or {_MOST_BYTES} bytes",
            "do not trust this revision",
        )
    revision.write({there.root / path: entry for path, entry in small.items()})
    for path in wanted.keys() - small.keys():
        # Too large to be read as a recipe; its size alone lets the reader say so.
        to = there.root / path
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("wb") as stream:
            stream.truncate(_limit(path) + 1)


def _limit(path: str) -> int:
    return MAX_LOCK_BYTES if path == LOCK else MAX_BYTES


def _named(value: Any, key: str = "") -> Iterator[str]:
    """Project paths that a recipe may name: its string leaves, as plain relative paths."""
    if isinstance(value, dict):
        for below, child in value.items():
            yield from _named(child, str(below))
    elif isinstance(value, list):
        for child in value:
            yield from _named(child, key)
    elif isinstance(value, str) and 0 < len(value) <= 512 and "\0" not in value:
        path = posixpath.normpath(value)
        if not path.startswith(("/", "..")) and path != ".":
            yield path


def _bring(
    project: Project, revision: Revision, entries: Mapping[str, Entry], path: str, there: Project
) -> bool:
    """Puts a file or folder of the revision in place; False if today's had to stand in for it."""
    if (there.root / path).is_file():
        return True  # below a folder that came before
    if path in entries:
        revision.write({there.root / path: entries[path]})
        return True
    if f"{path}.dvc" in entries:
        return _from_cache(project, revision, entries[f"{path}.dvc"], there.root / path)
    below = [
        known
        for known in entries
        if known.startswith(f"{path}/") and not (there.root / known).exists()
    ]
    if below and "/" in path:
        revision.write({there.root / known: entries[known] for known in below})
        return True
    today = (project.root / path).resolve()
    if "/" not in path or not today.is_relative_to(project.root) or not today.exists():
        return True  # no path at all, or one that is missing: the builder says so
    for source in [today] if today.is_file() else sorted(today.rglob("*")):
        if source.is_file():
            _link_or_copy(source, there.root / path / source.relative_to(today))
    return False


def _from_cache(project: Project, revision: Revision, entry: Entry, to: Path) -> bool:
    """A file that DVC tracks, out of its cache; left missing where the cache lacks it."""
    try:
        stated = yaml.safe_load(_small_text(revision, entry))
        md5 = str(stated["outs"][0]["md5"])
    except (yaml.YAMLError, LookupError, TypeError, UnicodeDecodeError):
        return True
    source = Cache(project).blob(md5)
    if _MD5.fullmatch(md5) and source.is_file():
        _link_or_copy(source, to)
    return True


def _link_or_copy(source: Path, to: Path) -> None:
    """Weights are large, so a second name for the bytes where the file system allows it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def _small_text(revision: Revision, entry: Entry) -> str:
    from slmcompile.revision import read_blob

    if entry.size > MAX_BYTES:
        return ""
    return read_blob(revision.root, entry.blob).decode("utf-8")


def _content_hash(path: Path, sha256: str) -> str:
    """A file's SHA-256; of a Git LFS pointer, that of the file that it stands for."""
    if path.stat().st_size > 1024:
        return sha256
    pointer = _LFS.match(path.read_bytes())
    return pointer[1].decode("ascii") if pointer else sha256
