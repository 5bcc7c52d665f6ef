"""Paths that a recipe names must lie inside the project and be what they seem.

A recipe comes from a pull request: ``..``, a symlink or a device in its paths would read what the
author of the recipe may not. Knows nothing of models.
"""

from __future__ import annotations

import stat
from pathlib import Path

from slmcompile.console.errors import BadRecipeError, RefusedError


def contained(project: Path, name: str, key: str) -> Path:
    """The path ``name`` of the project, with nothing on the way that leads out of it.

    Args:
        project: the project's root folder.
        name: relative path as the recipe has it.
        key: the recipe key that holds it, for the message.

    Raises:
        RefusedError: absolute, outside the project, or through a symlink.
        BadRecipeError: nothing is there.
    """
    root = project.resolve()
    path = root / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(root):
        raise RefusedError(f"{key}: {name} is outside the project", "name a path of the project")
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise RefusedError(f"{key}: {part.relative_to(root)} is a symlink", "use a real path")
    if not path.exists():
        raise BadRecipeError(f"{key}: {name} does not exist", "correct the path in the recipe")
    return path


def regular_file(path: Path, key: str) -> Path:
    """``path`` if it is a regular file; a symlink, FIFO, device or folder is refused."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise RefusedError(f"{key}: {path.name} is not a regular file", "use a regular file")
    return path
