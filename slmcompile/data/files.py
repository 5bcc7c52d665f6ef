"""Data files of the project: which may be read.

Knows nothing of formats. A recipe comes from somebody we do not know, so a path is resolved first
and only a regular file under the project is opened.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from slmcompile.console.errors import BadDataError, RefusedError
from slmcompile.files.safe_read import linked_file


def contained(project: Path, path: str, roots: Sequence[str] = ()) -> Path:
    """The resolved path of a regular file inside the project, or where a link may lead to.

    Args:
        project: the project's folder.
        path: as written in the recipe, relative to the project.
        roots: folders outside that the policy lets a link of the project lead into.

    Raises:
        RefusedError: the path leaves the project or is no regular file (exit 77).
        BadDataError: there is no such file (exit 65).
    """
    root = project.resolve()
    try:
        resolved = (root / path).resolve()
        linked = linked_file(root, path, roots) is not None
        outside = not linked and not resolved.is_relative_to(root)
        mode = None if outside else resolved.stat().st_mode
    except FileNotFoundError as error:
        raise BadDataError(
            f"{path}: no such file", "correct data.source or create the file"
        ) from error
    except (ValueError, OSError, RuntimeError) as error:  # NUL byte, loop of links, not a folder
        raise RefusedError(
            f"{path!r}: not a path to a file", "name a regular file of the project"
        ) from error
    if mode is None:
        raise RefusedError(
            f"{path}: is outside the project", "copy the file into the project's folder"
        )
    if not stat.S_ISREG(mode):
        raise RefusedError(f"{path}: is not a regular file", "name a regular file of the project")
    return resolved
