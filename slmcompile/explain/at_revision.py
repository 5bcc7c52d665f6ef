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
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from slmcompile.console.errors import RefusedError, SlmcompileError
from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.files.revision import Entry, Revision
from slmcompile.lock.file import MAX_BYTES as MAX_LOCK_BYTES
from slmcompile.lock.file import lock_name
from slmcompile.lock.pin import pin
from slmcompile.losses import LOSSES
from slmcompile.metrics import METRICS
from slmcompile.plans.builder import build
from slmcompile.plans.data_files import files_matched, fixed_folder, is_glob, matches
from slmcompile.plans.definition import Plan
from slmcompile.plans.plugins import joined
from slmcompile.plans.project_files import look
from slmcompile.recipe.compose import Composed, compose
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.project import Project
from slmcompile.sources import DATA_SOURCES, MODEL_SOURCES
from slmcompile.state.state import Cache, parse_stage

_MOST_FILES = 10_000
_MOST_BYTES = 64 * 1024 * 1024
_MOST_DATA_FILES = 1000
_MOST_DATA_BYTES = 256 * 1024 * 1024
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
    entries = revision.entries("recipes", "conf", "plugins", lock_name(name))
    if f"recipes/{name}.yaml" not in entries:
        return PastPlan(revision, None)
    with tempfile.TemporaryDirectory(prefix="slmcompile-") as folder:
        there = Project(Path(folder).resolve())
        try:
            with ExitStack() as block, saying_what_is_missing(there.root):
                _write_recipes(revision, entries, there)
                block.enter_context(joined(there))
                composed = pin(there, compose(there, name, overrides))
                borrowed = _bring(project, revision, _named(composed), there)
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
        if path.endswith((".yaml", ".lock")) or path.startswith("plugins/")
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
    return MAX_LOCK_BYTES if path.endswith(".lock") else MAX_BYTES


def _named(composed: Composed) -> list[str]:
    """Files and folders of the project that a recipe names, as plain relative paths."""
    model = composed.whole.model.source
    recipes = [view.recipe for view in composed.members.values()]
    rows = [part.source for recipe in recipes for part in recipe.data.parts]
    entry = MODEL_SOURCES[model.type]
    named: list[str | None] = [getattr(model, key) for key in (entry.file, entry.folder) if key]
    files = [DATA_SOURCES[source.type].files(source) for source in rows]
    named += [path for of_keys in files for each in of_keys.values() for path in each]
    of_metrics = sorted({metric.file for metric in METRICS.values() if metric.file})
    named += [getattr(recipe.eval, key) for recipe in recipes for key in of_metrics]
    losses = [recipe.train.loss for recipe in recipes]
    named += [getattr(loss, key) for loss in losses if (key := LOSSES[loss.type].code)]
    paths = dict.fromkeys(posixpath.normpath(path) for path in named if path and "\0" not in path)
    # What lies outside, in .git or in .dvc is not brought: the builder says why.
    return [
        path
        for path in paths
        if not path.startswith("/") and not any(part.startswith(".") for part in path.split("/"))
    ]


def _bring(
    project: Project, revision: Revision, paths: Sequence[str], there: Project
) -> tuple[str, ...]:
    """Puts files and folders of the revision in place; those that today's had to stand in for.

    Raises:
        RefusedError: git holds more of them than can be written out, or a link is on the way to
            one of today's (exit 77).
    """
    globs = [path for path in paths if is_glob(path)]
    folders = [fixed_folder(path) or "." for path in globs]
    held = revision.entries(*paths, *folders, *(f"{path}.dvc" for path in paths))
    paths = [match for path in paths for match in _matched(project, path, held)]
    found: dict[str, Entry] = {}
    borrowed: list[str] = []
    for path in paths:
        below = {name: held[name] for name in held if f"{name}/".startswith(f"{path}/")}
        found |= below
        if not below and f"{path}.dvc" in held:
            _from_cache(project, revision, held[f"{path}.dvc"], there.root / path)
        elif not below and _lend(project, path, there):
            borrowed.append(path)
    size = sum(entry.size for entry in found.values())
    if len(found) > _MOST_DATA_FILES or size > _MOST_DATA_BYTES:
        raise RefusedError(
            f"{', '.join(paths)}: more than {_MOST_DATA_FILES} files or"
            f" {_MOST_DATA_BYTES >> 20} MB in git",
            "keep large files in DVC or Git LFS, and compare with a revision that does",
        )
    wanted = {there.root / name: entry for name, entry in found.items()}
    revision.write({to: entry for to, entry in wanted.items() if not to.exists()})
    return tuple(borrowed)


def _matched(project: Project, path: str, held: Mapping[str, Entry]) -> list[str]:
    """Files that a glob matched at the revision, or matches now if it did not; else the path."""
    if not is_glob(path) or path in held:
        return [path]
    tracked = {name.removesuffix(".dvc") for name in held}
    found = sorted(name for name in tracked if matches(path, name))
    return found or sorted(files_matched(project, path, path))


def _from_cache(project: Project, revision: Revision, entry: Entry, to: Path) -> None:
    """A file that DVC tracks, out of its cache; left missing where the cache lacks it."""
    from slmcompile.files.revision import read_blob

    tracked = parse_stage(read_blob(revision.root, entry.blob)) if entry.size <= MAX_BYTES else None
    cache = Cache(project)
    for md5 in list(tracked.outs.values())[:1] if tracked else []:
        if cache.look(md5) is not None and not to.exists():
            _link_or_copy(cache.blob(md5), to)


def _lend(project: Project, path: str, there: Project) -> bool:
    """Puts today's file or folder in place; False if there is none, as the builder will say."""
    found = look(project, path, path)
    if found is None:
        return False
    today = project.root / path
    for source in sorted(today.rglob("*")) if stat.S_ISDIR(found.st_mode) else [today]:
        name = source.relative_to(project.root).as_posix()
        inside = look(project, name, name)
        if inside and stat.S_ISREG(inside.st_mode) and not (there.root / name).exists():
            _link_or_copy(source, there.root / name)
    return True


def _link_or_copy(source: Path, to: Path) -> None:
    """Weights are large, so a second name for the bytes where the file system allows it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def _content_hash(path: Path, sha256: str) -> str:
    """A file's SHA-256; of a Git LFS pointer, that of the file that it stands for."""
    if path.stat().st_size > 1024:
        return sha256
    pointer = _LFS.match(path.read_bytes())
    return pointer[1].decode("ascii") if pointer else sha256
