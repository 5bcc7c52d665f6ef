"""A folder that has to hold certain files and nothing else, looked at without following a link.

What lies there may be a stranger's: a link could lead anywhere, a FIFO waits for ever, and a
folder can be filled without end; so the first thing that does not belong is the last one looked
at. Knows nothing of stages and statements.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, RefusedError
from slmcompile.files.artifact import MANIFEST, MAX_MANIFEST, lists_files
from slmcompile.files.file_hash import file_hash
from slmcompile.files.safe_read import read_regular
from slmcompile.files.strict_json import decoder

_MEND = "take the folder from where it was made, or remove it and run the recipe again"
_NO_LINKS = (
    "put the files themselves there; of DVC's links: `dvc config cache.type reflink,copy`, then"
    " `dvc checkout --relink`"
)


@dataclass(frozen=True)
class Listed:
    """A folder's manifest.

    Attributes:
        content: what it says.
        sha256: of its bytes.
        size: bytes of all files that it lists, and its own.
    """

    content: Mapping[str, Any]
    sha256: str
    size: int

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of every file that it lists, by path."""
        return {name: entry["sha256"] for name, entry in self.content["files"].items()}

    @property
    def whole(self) -> dict[str, str]:
        """The same, and its own."""
        return {**self.files, MANIFEST: self.sha256}


def read_listed(folder: Path, shown: str) -> Listed:
    """The manifest of a folder, unverified.

    Raises:
        CorruptError: there is none (exit 74).
        RefusedError: it is a link or no regular file (exit 77).
    """
    at = f"{shown}/{MANIFEST}"
    data = read_regular(folder, MANIFEST, at, MAX_MANIFEST)
    if data is None:
        raise CorruptError(f"{at}: is missing", _MEND)
    content = _manifest(data)
    if content is None:
        raise CorruptError(f"{at}: not a manifest", _MEND)
    size = sum(entry["size"] for entry in content["files"].values())
    return Listed(content, hashlib.sha256(data).hexdigest(), size + len(data))


def _manifest(data: bytes) -> dict[str, Any] | None:
    try:
        content = decoder().decode(data.decode("utf-8")) if len(data) <= MAX_MANIFEST else None
    except (ValueError, RecursionError):
        return None
    sound = isinstance(content, dict) and lists_files(content.get("files"))
    return content if sound else None


def require_exactly(
    folder: Path, shown: str, files: Mapping[str, str], size: int, *, alone: bool = False
) -> None:
    """Checks that a folder holds these files with these bytes, and nothing more.

    Args:
        folder: the folder.
        shown: what messages call it.
        files: SHA-256 of each file, by its path in the folder.
        size: bytes of all of them, which is compared before any is read.
        alone: whether none may have a second name somewhere, through which it could be changed.
            DVC gives what it caches one, unless it is told to copy.

    Raises:
        CorruptError: one is missing, added or has other bytes (exit 74).
        RefusedError: there is a link, a device or, if ``alone``, a file of two names (exit 77).
    """
    sizes = {}
    folders = {name[:at] for name in files for at, sign in enumerate(name) if sign == "/"}
    for name, facts in _entries(folder, shown, ""):
        is_folder = stat.S_ISDIR(facts.st_mode)
        if not is_folder and not stat.S_ISREG(facts.st_mode):
            raise RefusedError(f"{shown}/{name}: a link, or no regular file", _NO_LINKS)
        if name not in (folders if is_folder else files):
            raise CorruptError(f"{shown}/{name}: does not belong there", _MEND)
        if alone and not is_folder and facts.st_nlink != 1:
            raise RefusedError(
                f"{shown}/{name}: the file has a second name elsewhere", "put a copy there"
            )
        sizes[name] = 0 if is_folder else facts.st_size
    for name in sorted(files.keys() - sizes.keys()):
        raise CorruptError(f"{shown}/{name}: is missing", _MEND)
    if sum(sizes.values()) != size:
        raise CorruptError(f"{shown}: not of the size that is stated", _MEND)
    for name, sha256 in files.items():
        if hash_of(folder, shown, name) != sha256:
            raise CorruptError(f"{shown}/{name}: its bytes are not those that are stated", _MEND)


def _entries(folder: Path, shown: str, inside: str) -> Iterator[tuple[str, os.stat_result]]:
    """What lies in a folder, each before what is below it."""
    try:
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                facts = entry.stat(follow_symlinks=False)
                yield name, facts
                if stat.S_ISDIR(facts.st_mode):
                    yield from _entries(folder, shown, name)
    except OSError as error:
        raise CorruptError(
            f"{shown}: cannot be looked through ({error.strerror})", _MEND
        ) from error


def hash_of(folder: Path, shown: str, name: str, algorithm: str = "sha256") -> str:
    """Hex digest of a file; what is no regular one, or cannot be read, is damage."""
    try:
        return file_hash(folder / name, algorithm)
    except OSError as error:
        raise CorruptError(f"{shown}/{name}: cannot be read ({error.strerror})", _MEND) from error


def dvc_object(folder: Path, shown: str, files: Mapping[str, str]) -> str:
    """What DVC 3 calls a folder: the MD5 of the list of its files, as ``dvc_data`` writes it."""
    listed = [
        {"md5": hash_of(folder, shown, name, "md5"), "relpath": name} for name in sorted(files)
    ]
    text = json.dumps(listed, sort_keys=True)
    return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.dir"
