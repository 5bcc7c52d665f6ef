"""The one document in an archive that another job has uploaded, read without unpacking anything.

The job may have been a stranger's: names in the archive are compared and never used as paths, and
no more is decompressed than a document may have.
"""

from __future__ import annotations

import io
import zipfile
import zlib

from slmcompile.ci.proposal import LARGEST
from slmcompile.console.errors import CorruptError

DOCUMENT = "proposal.json"
"""Name of the document in the archive."""

LARGEST_ARCHIVE = 4 << 20
"""Bytes of an archive."""

_ANEW = "have the plan's job upload proposal.json alone"
_MOST_MEMBERS = 16
_PLAIN = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_WRONG = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError)
"""What comes of reading what is no archive, or one that was made to be misread."""


def document(data: bytes, shown: str) -> bytes:
    """The bytes of the document; at most one more than ``LARGEST``.

    Args:
        data: the archive, at most one byte more than ``LARGEST_ARCHIVE``.
        shown: what messages call it.

    Raises:
        CorruptError: no archive, or not one with one such document (exit 74).
    """
    if len(data) > LARGEST_ARCHIVE:
        raise CorruptError(f"{shown}: larger than {LARGEST_ARCHIVE} bytes", _ANEW)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            named = [member for member in members if member.filename == DOCUMENT]
            plain = len(members) <= _MOST_MEMBERS and len(named) == 1
            if plain and named[0].compress_type in _PLAIN:
                with archive.open(named[0]) as stream:
                    return stream.read(LARGEST + 1)
    except _WRONG as error:
        raise CorruptError(f"{shown}: not an archive that can be read", _ANEW) from error
    raise CorruptError(f"{shown}: does not hold one plain {DOCUMENT}", _ANEW)
