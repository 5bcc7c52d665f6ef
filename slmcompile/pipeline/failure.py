"""How a failed stage reaches ``slmcompile run`` through DVC, which only says that it failed."""

from __future__ import annotations

import json
from pathlib import Path

from slmcompile.artifact import saying_what_is_missing, write_json
from slmcompile.errors import Exit, SlmcompileError
from slmcompile.project import Project


def _path(project: Project, address: str) -> Path:
    return project.scratch / "failures" / f"{address.replace('/', '.')}.json"


def clear_failure(project: Project, address: str) -> None:
    """Forgets an earlier failure of a stage."""
    path = _path(project, address)
    with saying_what_is_missing(path):
        path.unlink(missing_ok=True)


def write_failure(project: Project, address: str, error: Exception) -> None:
    """Leaves a stage's error where ``run`` finds it; a full disk does not hide the error."""
    known = isinstance(error, SlmcompileError)
    try:
        write_json(
            _path(project, address),
            {
                "stage": address,
                "code": int(error.code if isinstance(error, SlmcompileError) else Exit.BUG),
                "what": error.what if isinstance(error, SlmcompileError) else repr(error),
                "mend": error.mend if isinstance(error, SlmcompileError) else "",
                "known": known,
            },
        )
    except (OSError, SlmcompileError):
        return


def read_failure(project: Project, address: str) -> SlmcompileError | None:
    """The error of a stage that failed since ``clear_failure``."""
    try:
        record = json.loads(_path(project, address).read_text(encoding="utf-8"))
        what = f"{record['stage']}: {record['what']}"
        return SlmcompileError(what, record["mend"], code=Exit(record["code"]))
    except (OSError, ValueError, KeyError):
        return None
