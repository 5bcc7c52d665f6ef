"""A folder that a program has written that nobody has read: looked at as data, before it is used.

When that program, and all that it has started, has ended, what is looked at stays so. Until then
each file is opened once, and what it is known by is what was opened.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slmcompile.console.errors import CorruptError
from slmcompile.console.printable import shortened, shows_itself
from slmcompile.files.safe_read import leads_out

_DEEPEST = 16
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
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


@contextmanager
def opened_below(folder: Path, name: str) -> Iterator[Path]:
    """A path to a file in a folder that others may change: whatever they do, to that very file.

    Raises:
        OSError: it is none, has another name too, or is behind a link or outside.
    """
    if leads_out(name):
        raise OSError(errno.EINVAL, "outside of its folder", name)
    handles = [os.open(folder, _FOLDER)]
    try:
        *above, last = name.split("/")
        for part in above:
            handles.append(os.open(part, _FOLDER, dir_fd=handles[-1]))
        handles.append(os.open(last, _FILE, dir_fd=handles[-1]))
        found = os.fstat(handles[-1])
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EINVAL, "no file of one name", name)
        yield Path(f"/proc/self/fd/{handles[-1]}")
    finally:
        for handle in handles:
            os.close(handle)


def remove(folder: Path) -> None:
    """Removes such a folder, however deep it is and whatever rights it has.

    ``shutil.rmtree`` (to Python 3.12) calls itself once a level.
    """
    if not folder.is_dir() or folder.is_symlink():
        return
    for words in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        command = [shutil.which(words[0]) or words[0], *words[1:], "--", str(folder)]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
