"""How a failed stage reaches ``slmcompile run`` through DVC, which only says that it failed.

What it failed on is remembered with it, so that a later plan can tell whether the same would run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.files.artifact import MANIFEST, saying_what_is_missing, write_json
from slmcompile.files.safe_read import read_json
from slmcompile.recipe.project import Project
from slmcompile.state.specs import read_spec
from slmcompile.state.state import md5_file

_STOPPED = frozenset({Exit.INTERRUPTED, Exit.TERMINATED})
"""Ends that say nothing of the stage."""
_OURS = "this is a bug in slmcompile; please report the traceback, in .slmcompile/logs"
"""How to mend what no stage meant to raise: ``run`` keeps there what a stage wrote."""


def _name(address: str) -> str:
    return f"{address.replace('/', '.')}.json"


def _path(project: Project, address: str) -> Path:
    return project.scratch / "failures" / _name(address)


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
                "mend": error.mend if isinstance(error, SlmcompileError) else _OURS,
                "known": known,
                "also": [
                    each.to_json()
                    for each in (error.also if isinstance(error, SlmcompileError) else ())
                ],
                "read": _read(project, address),
            },
        )
    except (OSError, SlmcompileError):
        return


def _read(project: Project, address: str) -> dict[str, str | None]:
    """MD5 of a stage's spec and of all that it reads, by path; of a folder its manifest's."""
    path = "pipelines/{}/plan/{}.json".format(*address.split("/"))
    spec = read_spec(project, path) or {}
    paths = (path, *spec.get("files", ()), *spec.get("inputs", {}).values())
    folders = {path for path in paths if (project.root / path).is_dir()}
    return {
        path: md5_file(project.root / path / MANIFEST if path in folders else project.root / path)
        for path in paths
    }


def failed_on(
    project: Project, address: str, now: Callable[[str], str | None]
) -> SlmcompileError | None:
    """The error with which a stage ended when it last ran, on just what it would run on now.

    ``now`` gives the MD5 that a path will have, of a folder its manifest's; None if not known.
    """
    name = f".slmcompile/failures/{_name(address)}"
    if not os.path.lexists(f"{project.root}/{name}"):
        return None
    record = read_json(project.root, name)
    if not isinstance(record, dict) or not isinstance(record.get("read"), dict):
        return None
    if any(md5 is None or now(path) != md5 for path, md5 in record["read"].items()):
        return None
    error = _error(record, "")
    return None if error is None or error.code in _STOPPED else error


def _error(record: dict[str, Any], lead: str) -> SlmcompileError | None:
    try:
        code = Exit(record["code"])
        also = [
            SlmcompileError(str(each["what"]), str(each["hint"]), code=Exit(each["code"]))
            for each in record.get("also", ())
        ]
        what = f"{lead}{record['what']}"
        return SlmcompileError(what, str(record["mend"]), code=code, also=also)
    except (ValueError, KeyError, TypeError):
        return None


def read_failure(project: Project, address: str) -> SlmcompileError | None:
    """The error of a stage that failed since ``clear_failure``."""
    try:
        record = json.loads(_path(project, address).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _error(record, f"{address}: ")
