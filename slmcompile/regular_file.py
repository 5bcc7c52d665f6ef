"""Bytes of a regular file below a folder, read without following a link or opening a device.

What lies in a project may come from a pull request. A symbolic link could lead anywhere, opening
a FIFO would wait for ever and a device may never end, so each is refused before it is opened.
Knows nothing of what the files hold.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from slmcompile.errors import RefusedError

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def check_inside(root: Path, path: str, where: str) -> os.stat_result | None:
    """Looks at ``root/path`` without opening it; None if nothing is there.

    Raises:
        RefusedError: absolute, with ``..``, through a link, or neither file nor folder (exit 77).
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    absolute = path.startswith("/") or (os.name == "nt" and Path(path).is_absolute())
    if absolute or ".." in parts or "\0" in path:
        raise RefusedError(f"{where}: {path} lies outside the project", "move it into the project")
    found: os.stat_result | None = None
    current = str(root)
    for part in parts:
        current = f"{current}{os.sep}{part}"
        try:
            found = os.lstat(current)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RefusedError(f"{where}: {path}: {error.strerror}", "use another path") from error
        if stat.S_ISLNK(found.st_mode):
            raise RefusedError(
                f"{where}: {path} goes through a symbolic link, which may lead outside the project",
                "put the file itself there",
            )
    if found is not None and not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise RefusedError(f"{where}: {path} is not a regular file", "put a regular file there")
    return found


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
    handle = os.open(f"{root}{os.sep}{path}", _FLAGS)
    try:
        now = os.fstat(handle)
        if not stat.S_ISREG(now.st_mode):
            raise RefusedError(f"{where}: {path} is not a regular file", "put a regular file there")
        pieces: list[bytes] = []
        left = limit + 1
        while left > 0 and (piece := os.read(handle, min(left, 1 << 20))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(handle)


def read_json(root: Path, path: str, limit: int = 1 << 20) -> Any | None:
    """What the JSON file ``root/path`` holds; None if there is none that can be used.

    A link, a device, a file of more than ``limit`` bytes, and text that is no JSON or too deep to
    read count as none: for files that the project can do without.
    """
    try:
        data = read_regular(root, path, path, limit)
        return json.loads(data) if data is not None and len(data) <= limit else None
    except (OSError, RefusedError, ValueError, RecursionError):
        return None
