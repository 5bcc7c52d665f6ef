"""Hashes of large files, kept in a file between commands that only look.

Beside each stands what shows that the file is the same: device, inode, size, modification and
change time. It authenticates nothing: whatever runs, signs or compares what was signed hashes
the bytes. A store that is lost, damaged or cannot be written costs time alone.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

from slmcompile.console.errors import SlmcompileError
from slmcompile.files.artifact import write_text
from slmcompile.files.safe_read import check_inside, read_json

STORE = "hashes.json"
"""Name of the file, below the project's ``.slmcompile``."""

LARGE = 1 << 20
"""Bytes from which a file's hash is kept: a smaller one is hashed as fast as it is looked up."""

FORMAT_VERSION = "1.0"
_MOST = 4096
_MAX_BYTES = 4 << 20
_HEX = re.compile(r"[0-9a-f]{32,128}")

Signature = tuple[int, ...]
"""Device, inode, size, modification and change time (ns)."""


class HashStore:
    """The hashes that a file keeps.

    Args:
        root: the project's folder.
        folder: where in it the file lies, as a path relative to it.
    """

    def __init__(self, root: Path, folder: str) -> None:
        self._root = root
        self._path = f"{folder}/{STORE}"
        self._known = _read(root, self._path)
        self._changed = False

    def get(self, algorithm: str, path: Path, signature: Signature) -> str | None:
        """The hash of a file that is as it was; None where it is not, or was never hashed."""
        known = self._known.get(f"{algorithm} {path}")
        return known[1] if known is not None and known[0] == signature else None

    def put(self, algorithm: str, path: Path, signature: Signature, digest: str) -> None:
        """Keeps a hash; of very many the latest."""
        key = f"{algorithm} {path}"
        self._known.pop(key, None)
        self._known[key] = signature, digest
        self._changed = True

    def write(self) -> None:
        """Writes the file, if there is something new and it can be written.

        What another command has written meanwhile stays, but for the same files.
        """
        if not self._changed:
            return
        merged = {**_read(self._root, self._path), **self._known}
        kept = dict(list(merged.items())[-_MOST:])
        found = {key: [*signature, digest] for key, (signature, digest) in kept.items()}
        text = json.dumps({"format_version": FORMAT_VERSION, "files": found}, indent=0)
        with suppress(SlmcompileError, OSError):
            check_inside(self._root, self._path, self._path)  # a stranger's link may lead anywhere
            write_text(self._root / self._path, text + "\n")
        self._changed = False


def _read(root: Path, path: str) -> dict[str, tuple[Signature, str]]:
    """What the file keeps; nothing where it is not ours to read, or any of it is not ours."""
    found = read_json(root, path, _MAX_BYTES)
    if not isinstance(found, dict) or str(found.get("format_version"))[:2] != FORMAT_VERSION[:2]:
        return {}
    entries = found.get("files")
    if not isinstance(entries, dict):
        return {}
    kept: dict[str, tuple[Signature, str]] = {}
    for key, entry in entries.items():
        if not isinstance(entry, list) or len(entry) != 6:
            return {}
        *signature, digest = entry
        numbers = all(type(number) is int for number in signature)
        if not numbers or not isinstance(digest, str) or not _HEX.fullmatch(digest):
            return {}
        kept[key] = tuple(signature), digest
    return kept
