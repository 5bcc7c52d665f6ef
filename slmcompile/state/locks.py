"""Locks of ours, of recipes, of pieces of work, of finished work and of generated files.

Advisory locks of the kernel (``flock``): they end with the process that holds them, however it
ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from slmcompile.console.errors import LockedError
from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.files.safe_read import check_inside
from slmcompile.recipe.project import Project

# No recipe's name begins with a dot.
_PROJECT = ".project"
_KEPT = ".kept"
_WORK = ".work-"


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


@contextmanager
def work_lock(project: Project, fingerprint: str, say: Callable[[str], None]) -> Iterator[None]:
    """Waits for a piece of work, so that two recipes with equal work do it once, one after other.

    ``say`` is told where that takes waiting.
    """
    name = f"{_WORK}{fingerprint[:16]}"
    while True:
        with _opened(project, name) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another run is at the same work: waiting for it")
                fcntl.flock(stream, fcntl.LOCK_EX)
            path = project.scratch / "locks" / name
            if not _is_still(path, stream):
                continue  # whoever held it has removed it, and it locks nothing now
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def kept_work(project: Project) -> Iterator[None]:
    """Holds all finished work that is kept, beside others who do, while some is put in or used."""
    with _opened(project, _KEPT) as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield


@contextmanager
def kept_work_alone(project: Project) -> Iterator[bool]:
    """Whether nobody else puts in or uses finished work, and nobody will within the block."""
    with _opened(project, _KEPT) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def other_runs(project: Project, own: str | None = None) -> list[str]:
    """Names of the recipes that are running now, but for ``own``; ask under the project's lock."""
    folder = project.scratch / "locks"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if name != own and name[0] != "." and _held(project, name))


def _held(project: Project, name: str) -> bool:
    with _opened(project, name) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_still(path: Path, stream: BinaryIO) -> bool:
    """Whether the file that is open is the one that lies there."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(stream.fileno()))
    return False


@contextmanager
def _opened(project: Project, name: str) -> Iterator[BinaryIO]:
    path = project.scratch / "locks" / name
    # What is committed there could be a link to any file of whoever runs it.
    check_inside(project.root, project.shown(path), project.shown(path))
    with saying_what_is_missing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        # Without a buffer: what found no room would be tried again, and fail again, at the end.
        stream = os.fdopen(os.open(path, flags, 0o666), "a+b", buffering=0)
    with stream:
        yield stream
