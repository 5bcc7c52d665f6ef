"""The files that ``data.source`` names, its globs followed: one list for a plan and all behind it.

A glob is followed folder by folder, in the project alone. What it matches is looked at as a file
that is named, so a link among them is refused and not passed over.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pydantic import ValidationError

from slmcompile.console.errors import BadDataError, BadRecipeError
from slmcompile.console.printable import shortened
from slmcompile.plans.project_files import contained, look, permitted
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.data_parts import Part
from slmcompile.recipe.overrides import is_override
from slmcompile.recipe.project import Project
from slmcompile.recipe.yaml_file import KeyPath
from slmcompile.registry.scalars import LONGEST_PATH
from slmcompile.sources import DATA_SOURCES
from slmcompile.sources.keys import SourceKeys
from slmcompile.sources.of_data.file import FileData

MOST_FILES = 1000
"""Files that a glob may match."""

_MAGIC = re.compile(r"[*?\[]")
_MOST_ENTRIES = 100_000


def is_glob(path: str) -> bool:
    """Whether a path may match several files."""
    return _MAGIC.search(path) is not None


def fixed_folder(glob: str) -> str:
    """The folder below which everything lies that a glob matches; empty for the project."""
    parts = PurePosixPath(glob).parts
    return "/".join(parts[: next(n for n, part in enumerate(parts) if is_glob(part))])


def globs_of(source: SourceKeys) -> list[str]:
    """The globs that a source names."""
    named = DATA_SOURCES[source.type].files(source)
    return [path for paths in named.values() for path in paths if is_glob(path)]


def glob_folders(sources: Iterable[SourceKeys]) -> tuple[str, ...]:
    """Folders below which the sources' globs look, but for the project itself, by name."""
    globs = [glob for source in sources for glob in globs_of(source)]
    return tuple(sorted({fixed_folder(glob) for glob in globs} - {""}))


def matches(glob: str, path: str) -> bool:
    """Whether a glob matches a path, part by part; ``*`` matches no hidden name."""
    parts, names = PurePosixPath(glob).parts, PurePosixPath(path).parts
    return len(parts) == len(names) and all(map(_matches, parts, names))


def _matches(part: str, name: str) -> bool:
    return fnmatchcase(name, part) and not name.startswith(".") if is_glob(part) else name == part


def followed(project: Project, part: Part, composed: Composed) -> SourceKeys:
    """A part's source with every file by its own name.

    Raises:
        BadRecipeError: ``**``, or of file data path and files, or neither (exit 78).
        BadDataError: no such file, or too many (exit 65).
        RefusedError: outside of the project (exit 77).
    """
    source, at = part.source, tuple(part.key("data.source").split("."))
    if isinstance(source, FileData):
        _one_of_both(source, at, composed)
    for key, paths in DATA_SOURCES[source.type].files(source).items():
        keys = (*at, *key.split("."))
        where = f"{composed.origin(keys)}: {'.'.join(keys)}"
        found = tuple(
            dict.fromkeys(path for given in paths for path in _matched(project, given, where))
        )
        _bearable(found, where)
        source = _with(source, key, found[0] if len(found) == 1 else found)
        if len(found) > 1 and not _is_valid(source):
            raise BadDataError(f"{where}: {len(found)} files, and it reads one", "name the one")
    return source


def _bearable(found: tuple[str, ...], where: str) -> None:
    """Raises BadDataError where a recipe could not name the files that its globs match."""
    if len(found) > MOST_FILES:
        raise BadDataError(f"{where}: {len(found)} files, more than {MOST_FILES}", "join them")
    longest = max(found, key=len, default="")
    if len(longest) > LONGEST_PATH:
        raise BadDataError(
            f"{where}: {shortened(longest)} has {len(longest)} characters, more than"
            f" {LONGEST_PATH}",
            "move the file up",
        )


def _is_valid(source: SourceKeys) -> bool:
    try:
        type(source).model_validate(source.model_dump())
    except ValidationError:
        return False
    return True


def _with(source: SourceKeys, key: str, value: str | tuple[str, ...]) -> SourceKeys:
    """The source with another value at a dotted key."""
    name, _, below = key.partition(".")
    whole = {**getattr(source, name), below: value} if below else value
    return source.model_copy(update={name: whole})


def _one_of_both(source: FileData, at: KeyPath, composed: Composed) -> None:
    key = ".".join(at)
    if source.names_both:
        where = composed.origin((*at, "files"))
        null = f"{key}.path=null" if is_override(where) else "`path: null`"
        raise BadRecipeError(
            f"{where}: {key}.files: there is a path too ({composed.origin((*at, 'path'))})",
            f"keep one of the two; {null} takes the path away",
        )
    if not source.paths:
        raise BadRecipeError(
            f"{composed.origin((*at, 'path'))}: {key}: neither path nor files is given",
            "give `path: rows.jsonl`, or `files: {train: …, validation: …, test: …}`",
        )


def _matched(project: Project, given: str, where: str) -> list[str]:
    if not is_glob(given):
        return [contained(project, given, where)]
    permitted(given, where)
    if look(project, given, where) is not None:
        return [contained(project, given, where)]  # a file whose name has such a character
    parts = PurePosixPath(given).parts
    if "**" in parts:
        raise BadRecipeError(
            f"{where}: {given}: ** is not followed", "name each folder: data/*/rows.jsonl"
        )
    found = files_matched(project, given, where)
    if not found:
        raise BadDataError(f"{where}: {given} matches no file", _near(project, parts))
    if len(found) > MOST_FILES:
        raise BadDataError(
            f"{where}: {given} matches {len(found)} files, more than {MOST_FILES}", "join them"
        )
    return [contained(project, path, where) for path in found]


def files_matched(project: Project, glob: str, where: str) -> list[str]:
    """Files that a glob matches now, by name; folders are passed over.

    Raises:
        RefusedError: a link is on the way or among them, or neither file nor folder (exit 77).
        BadDataError: there are too many names to look at (exit 65).
    """
    found = _below(project, PurePosixPath(glob).parts, where)
    return [path for path in found if not _is_folder(project, path, where)]


def _below(project: Project, parts: tuple[str, ...], where: str) -> list[str]:
    """Everything that the parts match, by name; no link is gone through on the way."""
    found = [""]
    looked_at = 0
    for part in parts:
        if not is_glob(part):
            found = [f"{folder}{part}/" for folder in found]
            continue
        matched: list[str] = []
        for folder in found:
            for name in _names(project, folder, where):
                looked_at += 1
                if looked_at > _MOST_ENTRIES:
                    raise BadDataError(
                        f"{where}: more than {_MOST_ENTRIES} names to look at", "name fewer folders"
                    )
                if _matches(part, name):
                    matched.append(f"{folder}{name}/")
        found = matched
    there = (path.rstrip("/") for path in found)
    return sorted(path for path in there if look(project, path, where) is not None)


def _names(project: Project, folder: str, where: str) -> Iterator[str]:
    if _is_folder(project, folder.rstrip("/") or ".", where):
        with os.scandir(project.root / folder) as entries:
            yield from (entry.name for entry in entries)


def _is_folder(project: Project, path: str, where: str) -> bool:
    found = look(project, path, where)
    return path == "." or (found is not None and stat.S_ISDIR(found.st_mode))


def _near(project: Project, parts: tuple[str, ...]) -> str:
    """A mend for a glob that matches nothing: the nearest name where its fixed part leads."""
    folder = fixed_folder("/".join(parts))
    fixed = len(PurePosixPath(folder).parts)
    folder = f"{folder}/" if folder else ""
    names = sorted(name for name in _names(project, folder, folder) if not name.startswith("."))
    if not names:
        return f"check it: there is nothing in {folder or 'the project'}"
    near = get_close_matches(parts[fixed], names[:MOST_FILES], n=1, cutoff=0.3) or names[:1]
    return f"check it: {folder or 'the project'} holds {folder}{near[0]}"
