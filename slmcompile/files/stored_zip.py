"""A zip that is equal to the byte whoever writes it, and whenever; whole or absent.

Its entries are in the order of their names, with one time and one mode, and stored: two versions
of zlib press the same bytes differently, and weights hardly get smaller. Knows nothing of what is
in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from slmcompile.console.errors import CorruptError
from slmcompile.files.artifact import whole_file

_WHEN = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16
_ON_UNIX = 3
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileEntry:
    """A file that must be what it is known to be.

    Attributes:
        path: where it lies.
        sha256: of its bytes.
        size: their number.
    """

    path: Path
    sha256: str
    size: int


def write_zip(path: Path, entries: Mapping[str, bytes | FileEntry]) -> None:
    """Writes an archive of these entries, by their names in it.

    Raises:
        CorruptError: a file has other bytes than it should; nothing is written (exit 74).
        MissingError: the disk is full, or may not be written (exit 69).
    """
    with whole_file(path) as stream, ZipFile(stream, "w", ZIP_STORED) as archive:
        for name, entry in sorted(entries.items()):
            info = ZipInfo(name, _WHEN)
            info.create_system, info.external_attr = _ON_UNIX, _PLAIN_FILE
            info.file_size = len(entry) if isinstance(entry, bytes) else entry.size
            _add(archive, info, entry)


def _add(archive: ZipFile, info: ZipInfo, entry: bytes | FileEntry) -> None:
    with archive.open(info, "w") as into:
        if isinstance(entry, bytes):
            into.write(entry)
            return
        digest, left = hashlib.sha256(), entry.size
        with entry.path.open("rb") as stream:
            # What has grown since is not read to its end.
            while chunk := stream.read(min(_CHUNK, left + 1)):
                digest.update(chunk)
                left -= len(chunk)
                if left < 0:
                    break
                into.write(chunk)
        if left or digest.hexdigest() != entry.sha256:
            raise CorruptError(
                f"{entry.path}: its bytes are not those that were written",
                "remove the folder and run the recipe again",
            )
