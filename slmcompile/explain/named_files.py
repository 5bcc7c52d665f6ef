"""Files of a revision that a recipe names, written where the recipe is compiled.

As git stores them; what it does not hold may come out of DVC's cache, or be today's.
"""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from slmcompile.console.errors import MissingError, RefusedError
from slmcompile.files.revision import Entry, Revision, read_blob
from slmcompile.files.second_name import link_or_copy
from slmcompile.losses import LOSSES
from slmcompile.metrics import METRICS
from slmcompile.plans.data_files import files_matched, fixed_folder, is_glob, matches
from slmcompile.plans.project_files import look
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.project import Project
from slmcompile.sources import DATA_SOURCES, MODEL_SOURCES
from slmcompile.state.state import Cache, parse_stage

_MOST_DATA_FILES = 1000
_MOST_DATA_BYTES = 256 * 1024 * 1024
_LFS = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})"
)


def named(composed: Composed) -> list[str]:
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


def bring(
    project: Project | None, revision: Revision, paths: Sequence[str], there: Project
) -> tuple[str, ...]:
    """Puts files and folders of a revision in place; those that today's had to stand in for.

    Args:
        project: whose cache and files of today stand in for what git does not hold; None for
            nobody's.
        revision: which.
        paths: as recipes name them.
        there: where they are put.

    Raises:
        MissingError: git does not hold one, and nothing may stand in for it (exit 69).
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
        if below:
            continue
        if project is None:
            raise MissingError(
                f"{path}: git does not hold its bytes", "commit the file itself, or by Git LFS"
            )
        if f"{path}.dvc" in held:
            _from_cache(project, revision, held[f"{path}.dvc"], there.root / path)
        elif _lend(project, path, there):
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


def _matched(project: Project | None, path: str, held: Mapping[str, Entry]) -> list[str]:
    """Files that a glob matched at the revision, or matches now if it did not; else the path."""
    if not is_glob(path) or path in held:
        return [path]
    tracked = {name.removesuffix(".dvc") for name in held}
    found = sorted(name for name in tracked if matches(path, name))
    return found or (sorted(files_matched(project, path, path)) if project else [path])


def _from_cache(project: Project, revision: Revision, entry: Entry, to: Path) -> None:
    """A file that DVC tracks, out of its cache; left missing where the cache lacks it."""
    tracked = parse_stage(read_blob(revision.root, entry.blob)) if entry.size <= MAX_BYTES else None
    cache = Cache(project)
    for md5 in list(tracked.outs.values())[:1] if tracked else []:
        if cache.look(md5) is not None and not to.exists():
            link_or_copy(cache.blob(md5), to)


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
            link_or_copy(source, there.root / name)
    return True


def content_hash(path: Path, sha256: str) -> str:
    """A file's SHA-256; of a Git LFS pointer, that of the file that it stands for."""
    if path.stat().st_size > 1024:
        return sha256
    pointer = _LFS.match(path.read_bytes())
    return pointer[1].decode("ascii") if pointer else sha256
