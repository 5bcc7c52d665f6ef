"""Files and folders of the project that a recipe names: regular ones inside it, not opened."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from slmcompile.console.errors import BadDataError, MissingError, RefusedError
from slmcompile.files.safe_read import check_inside, leads_out, linked_file
from slmcompile.recipe.policy import FILE, load_policy
from slmcompile.recipe.project import Project

_LOOKED_AT = 1000  # files at most, for a hint
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\\$\\{")


def permitted(path: str, where: str) -> None:
    """Refuses a path by its text alone: an address, hidden, leading out or unfit to be written.

    Raises:
        RefusedError: it is (exit 77).
    """
    if _ADDRESS.match(path):
        raise RefusedError(
            f"{where}: {path} is an address, and only files of the project are read",
            "put a copy into the project and name that",
        )
    if leads_out(path):
        raise RefusedError(f"{where}: {path} lies outside the project", "move it into the project")
    if any(part.startswith(".") for part in PurePosixPath(path).parts):
        # Messages quote what a data file holds, and a stranger's recipe may name any.
        raise RefusedError(
            f"{where}: {path} is hidden, as files with credentials and caches are",
            "name a file or folder without a dot in front",
        )
    writable(path, where)


def writable(path: str, where: str) -> None:
    """Refuses a path that generated files cannot hold as it is.

    They are UTF-8 and of one line a name, and DVC takes ``${…}`` in them for a variable. No recipe
    spells such a path, but a glob or a folder may hold it.

    Raises:
        RefusedError: it is (exit 77).
    """
    if found := _UNWRITABLE.search(path):
        held = {"${": "${, a variable to DVC"}.get(found[0], "what is no text of one line")
        raise RefusedError(f"{where}: {path}: the name holds {held}", "rename the file")


def look(project: Project, path: str, where: str) -> os.stat_result | None:
    """As ``check_inside``; but the policy's data roots may let a link on the way lead outside.

    Raises:
        RefusedError: as ``check_inside``.
    """
    try:
        return check_inside(project.root, path, where)
    except RefusedError as error:
        policy = load_policy(project, project.policy_from)
        real = linked_file(project.root, path, policy.linked_roots)
        if real is None:
            mend = f"{error.mend}, or let data_roots of {FILE} name the folder that it leads to"
            raise RefusedError(error.what, mend if "link" in error.what else error.mend) from error
        return check_inside(Path(real.anchor), real.relative_to(real.anchor).as_posix(), where)


def contained(project: Project, path: str, where: str) -> str:
    """A project-relative path of a regular data file, not opened."""
    permitted(path, where)
    return _of_kind(project, path, where, look(project, path, where), folder=False)


def inside(project: Project, path: str, where: str, *, folder: bool = False) -> str:
    """A project-relative path of a regular file or folder inside the project, not opened."""
    permitted(path, where)
    found = check_inside(project.root, path, where)
    return _of_kind(project, path, where, found, folder=folder)


def _of_kind(
    project: Project, path: str, where: str, found: os.stat_result | None, *, folder: bool
) -> str:
    if folder and (found is None or not stat.S_ISDIR(found.st_mode)):
        problem = "no such folder" if found is None else "a file and not a folder"
        raise MissingError(f"{where}: {path}: {problem}", "put the model's files in a folder there")
    if not folder and (found is None or not stat.S_ISREG(found.st_mode)):
        problem = "no such file" if found is None else "a folder and not a file"
        raise BadDataError(f"{where}: {path}: {problem}", _near(project, path))
    return PurePosixPath(path).as_posix()


def _near(project: Project, path: str) -> str:
    """A mend line for a path where no file is: the one in that folder, or with the nearest name."""
    place, data = project.root / path, project.root / "data"
    inside = sorted(file.name for file in islice(place.glob("[!.]*"), _LOOKED_AT) if file.is_file())
    if inside:
        endings = Counter("".join(PurePosixPath(name).suffixes[-1:]) for name in inside)
        return f"name its files: {PurePosixPath(path)}/*{endings.most_common(1)[0][0]}"
    files = chain(place.parent.glob("[!.]*"), () if data.is_symlink() else data.rglob("[!.]*"))
    known = {
        file.relative_to(project.root).as_posix(): file.name
        for file in islice(files, _LOOKED_AT)
        if file.is_file()
    }
    close = [*get_close_matches(path, sorted(known), n=1)]
    close += [name for name in sorted(known) if known[name] == PurePosixPath(path).name]
    return f"did you mean {close[0]!r}?" if close else "check it: paths start at the project"


def files_below(project: Project, folder: str, where: str) -> tuple[str, ...]:
    """Every regular file below a folder; a link, a device or an unwritable name is refused."""
    found: list[str] = []
    for path in sorted((project.root / folder).rglob("*")):
        relative = path.relative_to(project.root).as_posix()
        inside = check_inside(project.root, relative, where)
        if inside is not None and stat.S_ISREG(inside.st_mode):
            writable(relative, where)
            found.append(relative)
    return tuple(found)
