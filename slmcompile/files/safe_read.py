"""Bytes of a regular file below a folder, read without following a link or opening a device.

What lies in a project may come from a pull request. A symbolic link could lead anywhere, opening
a FIFO would wait for ever and a device may never end, so each is refused before it is opened.
Knows nothing of what the files hold.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import RefusedError

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def leads_out(path: str) -> bool:
    """Whether a path is absolute or holds ``..``, so that it leads out of the folder it is in."""
    absolute = path.startswith("/") or (os.name == "nt" and Path(path).is_absolute())
    return absolute or ".." in path.split("/") or "\0" in path


def check_inside(root: Path, path: str, where: str) -> os.stat_result | None:
    """Looks at ``root/path`` without opening it; None if nothing is there.

    Raises:
        RefusedError: absolute, with ``..``, through a link, or neither file nor folder (exit 77).
    """
    at = path if where == path else f"{where}: {path}"
    if leads_out(path):
        raise RefusedError(f"{at} lies outside the project", "move it into the project")
    found: os.stat_result | None = None
    current = str(root)
    for part in path.split("/"):
        if part in {"", "."}:
            continue
        current = f"{current}{os.sep}{part}"
        try:
            found = os.lstat(current)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RefusedError(f"{at}: {error.strerror}", "use another path") from error
        if stat.S_ISLNK(found.st_mode):
            raise RefusedError(
                f"{at} goes through a symbolic link, which may lead outside the project",
                "put the file itself there",
            )
    if found is not None and not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise RefusedError(f"{at} is not a regular file", "put a regular file there")
    return found


def linked_file(root: Path, path: str, roots: Sequence[str]) -> Path | None:
    """Where ``root/path`` lies, if a link among its folders leads into one of ``roots``.

    ``roots`` are absolute folders that the project's owners have named. None where it leads
    elsewhere, to something hidden there, or is a link itself.
    """
    if not roots or leads_out(path) or (root / path).is_symlink():
        return None
    real = Path(os.path.realpath(root / path))
    for folder in roots:
        allowed = Path(os.path.realpath(folder))
        if len(allowed.parts) > 1 and real.is_relative_to(allowed):
            hidden = any(part.startswith(".") for part in real.relative_to(allowed).parts)
            return None if hidden else real
    return None


def read_regular(root: Path, path: str, where: str, limit: int) -> bytes | None:
    """The first ``limit + 1`` bytes of ``root/path``; None if no file is there.

    A caller knows a file that is larger than ``limit`` by the length of the answer.

    Raises:
        RefusedError: as ``check_inside``.
        OSError: it cannot be read.
    """
    found = check_inside(root, path, where)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    handle = open_regular(f"{root}{os.sep}{path}")
    try:
        pieces: list[bytes] = []
        left = limit + 1
        while left > 0 and (piece := os.read(handle, min(left, 1 << 20))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(handle)


def open_regular(path: str) -> int:
    """A descriptor to read a regular file from; what has become of the path since does no harm.

    Raises:
        OSError: it is a link or no regular file, or cannot be opened.
    """
    handle = os.open(path, _FLAGS)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return handle


def read_or_none(root: Path, path: str, limit: int) -> bytes | None:
    """The bytes of ``root/path``; None if there is none that can be used.

    A link, a device and a file of more than ``limit`` bytes count as none: for files that the
    project can do without.
    """
    try:
        data = read_regular(root, path, path, limit)
    except (OSError, RefusedError):
        return None
    return data if data is not None and len(data) <= limit else None


def read_json(root: Path, path: str, limit: int = 1 << 20) -> Any | None:
    """What the JSON file ``root/path`` holds; None if there is none that can be used.

    So do those of ``read_or_none`` count, and text that is no JSON or too deep to read.
    """
    data = read_or_none(root, path, limit)
    try:
        return None if data is None else json.loads(data)
    except (ValueError, RecursionError):
        return None


def read_output_json(folder: Path, name: str, limit: int = 1 << 20) -> Any | None:
    """As ``read_json``, of a file of a stage's output, which may be DVC's link into its cache."""
    real = Path(os.path.realpath(folder / name))
    return read_json(real.parent, real.name, limit)
