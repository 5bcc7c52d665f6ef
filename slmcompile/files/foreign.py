"""A folder that a program has written that nobody has read: looked at as data, before it is used.

Only when that program, and all that it has started, has ended: what is looked at here stays so.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from slmcompile.console.errors import CorruptError
from slmcompile.console.printable import shortened, shows_itself

_DEEPEST = 16
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
_MEND = "read the code that this stage executes: it writes what no stage does"


def require_plain(folder: Path, most_files: int, most_bytes: int) -> None:
    """That a folder holds regular files of one name each and folders, and not too many of them.

    Args:
        folder: whose own kind is known.
        most_files: files and folders that it may hold.
        most_bytes: that these may hold together, as a reader would count them.

    Raises:
        CorruptError: it holds something else (exit 74).
    """
    waiting, found, size = [(folder, 0)], 0, 0
    while waiting:
        current, depth = waiting.pop()
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    found += 1
                    if found > most_files:
                        raise CorruptError(f"{folder}: more than {most_files} files", _MEND)
                    status = entry.stat(follow_symlinks=False)
                    _require_plain(folder, Path(entry.path), status, depth)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append((Path(entry.path), depth + 1))
                    else:
                        size += status.st_size
        except OSError as error:
            said = error.strerror or type(error).__name__
            raise CorruptError(f"{current}: cannot be read ({said})", _MEND) from error
        if size > most_bytes:
            raise CorruptError(f"{folder}: more than {most_bytes} bytes", _MEND)


def _require_plain(folder: Path, path: Path, status: os.stat_result, depth: int) -> None:
    # Bytes that are no UTF-8 come as lone surrogates, which do not show themselves.
    name = shortened(str(path.relative_to(folder)), 120)
    if not shows_itself(path.name):
        raise CorruptError(f"{folder}: {name!r}: a name that cannot be read", _MEND)
    mode, wrong = status.st_mode, ""
    if stat.S_ISDIR(mode):
        wrong = f"more than {_DEEPEST} folders deep" if depth >= _DEEPEST else ""
    elif not stat.S_ISREG(mode):
        wrong = _KINDS.get(stat.S_IFMT(mode), "no file")
    elif status.st_nlink != 1:
        wrong = "a hard link"
    elif mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
        wrong = "a file that runs with its owner's rights"
    if wrong:
        raise CorruptError(f"{folder}: {name}: {wrong}", _MEND)


def remove(folder: Path) -> None:
    """Removes such a folder, however deep it is and whatever rights it has.

    ``shutil.rmtree`` (to Python 3.12) calls itself once a level.
    """
    if not folder.is_dir() or folder.is_symlink():
        return
    for words in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        command = [shutil.which(words[0]) or words[0], *words[1:], "--", str(folder)]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
