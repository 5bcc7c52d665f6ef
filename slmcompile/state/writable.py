"""Room and rights for what a run and DVC write, found wanting before anything is computed.

DVC says it in words of its own, after a stage has run; those are put into ours here.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from slmcompile.console.errors import MissingError
from slmcompile.files.artifact import as_missing
from slmcompile.recipe.project import Project
from slmcompile.state.state import Cache

_ERRNO = re.compile(r"\[Errno (\d+)\] ([^:]+)(?:: '([^']+)')?")
_DATABASE = {
    "database or disk is full": "no space left on the device",
    "attempt to write a readonly database": "read-only",
    "unable to open database file": "cannot be opened",
}
"""What SQLite says of a full or a read-only disk; DVC keeps its state in it."""


def check_writable(project: Project) -> None:
    """Writes a byte to a nameless file in each folder that a run needs, and makes those missing.

    Raises:
        MissingError: one of them cannot be made or written to (exit 69).
    """
    for folder in (
        project.scratch,
        project.pipelines,
        project.root / "outputs",
        project.root / ".dvc" / "tmp",
        Cache(project).root,
    ):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, buffering=0) as stream:
                stream.write(b"1")
        except OSError as error:
            found = as_missing(error, folder)
            raise found or MissingError(
                f"{folder}: cannot be written ({error.strerror})", "make the folder writable"
            ) from error


def missing_of(chatter: Iterable[str]) -> MissingError | None:
    """What DVC found no room or no right for, by its messages."""
    for line in chatter:
        if found := _ERRNO.search(line):
            number, text, path = found.groups()
            error = as_missing(OSError(int(number), text), Path(path or "DVC"))
            if error is not None:
                return error
        for said, what in _DATABASE.items():
            if said in line:
                return MissingError(
                    f"DVC's state database: {what}", "make room or make it writable, and run again"
                )
    return None
