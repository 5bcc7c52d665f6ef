"""DVC's own list of who reads and writes which path, ``.dvc/tmp/rwlock``, where a kill has cut it.

DVC writes it in place (``dvc/rwlock.py``, 3.67) and refuses to start over one that is no JSON. It
holds nothing but claims of running processes, and DVC edits it under a lock on ``rwlock.lock``,
which ends with its holder. So a list that cannot be read while that lock is free is of the dead.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from contextlib import suppress

from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.files.safe_read import read_or_none
from slmcompile.recipe.project import Project

LIST = ".dvc/tmp/rwlock"
_GUARD = f"{LIST}.lock"
_MOST_BYTES = 16 << 20


def is_damaged(project: Project) -> bool:
    """Whether DVC's list is there and DVC will not read it."""
    data = read_or_none(project.root, LIST, _MOST_BYTES)
    if data is None:
        return False
    try:
        claims = json.loads(data)
    except (ValueError, RecursionError):
        return True
    return not isinstance(claims, dict) or not all(
        isinstance(claims.get(name, {}), dict) for name in ("read", "write")
    )


def mend(project: Project, say: Callable[[str], None]) -> None:
    """Removes a damaged list, unless DVC is writing it at this moment; ``say`` is told.

    Raises:
        MissingError: it cannot be removed (exit 69).
    """
    if not is_damaged(project):
        return
    guard = project.root / _GUARD
    with saying_what_is_missing(guard), guard.open("a") as stream, suppress(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_damaged(project):
            (project.root / LIST).unlink(missing_ok=True)
            say(f"{LIST}: cut short when DVC was killed, and removed; it held no work")
