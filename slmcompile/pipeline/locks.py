"""Locks of ours: one a recipe, held while it runs, and one of the project, held for moments.

Advisory locks of the kernel (``flock``): they end with the process that holds them, however it
ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from slmcompile.artifact import saying_what_is_missing
from slmcompile.errors import LockedError
from slmcompile.project import Project

_PROJECT = ".project"
"""Name of the project's lock; no recipe can have it."""


@contextmanager
def recipe_lock(project: Project, name: str) -> Iterator[None]:
    """Holds a recipe; a second run of it ends with exit 5 and the holder's process id.

    Raises:
        LockedError: another process holds it (exit 5).
        MissingError: the lock's file cannot be written (exit 69).
    """
    with _opened(project, name) as stream:
        # Nobody is removing what this run will read while it begins.
        with project_lock(project):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.seek(0)
                holder = stream.read().decode("ascii", "replace").strip() or "?"
                raise LockedError(
                    f"{name}: another run (process {holder}) holds this recipe",
                    "wait for it to end, or stop it",
                ) from error
        with saying_what_is_missing(project.scratch / "locks" / name):
            stream.truncate(0)
            stream.write(str(os.getpid()).encode("ascii"))
        yield


@contextmanager
def project_lock(project: Project) -> Iterator[None]:
    """Waits for the project: generated files are written and removed by one process at a time."""
    with _opened(project, _PROJECT) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def other_runs(project: Project, own: str | None = None) -> list[str]:
    """Names of the recipes that are running now, but for ``own``; ask under the project's lock."""
    folder = project.scratch / "locks"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if name not in {own, _PROJECT} and _held(project, name))


def _held(project: Project, name: str) -> bool:
    with _opened(project, name) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _opened(project: Project, name: str) -> Iterator[BinaryIO]:
    path = project.scratch / "locks" / name
    with saying_what_is_missing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer: what found no room would be tried again, and fail again, at the end.
        stream = path.open("a+b", buffering=0)
    with stream:
        yield stream
