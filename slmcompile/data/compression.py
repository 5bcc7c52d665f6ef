"""Compressed data files, known by their ending: ``.gz`` and ``.zst``.

A file whose content is not what its name says is refused, and so is one that unpacks to more than
is held in memory.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from slmcompile.console.errors import BadDataError

LARGEST = 2 << 30
"""Bytes that a compressed file may unpack to."""

ENDINGS = {".gz": "gzip", ".zst": "Zstandard"}
_MAGIC = {"gzip": b"\x1f\x8b", "Zstandard": b"\x28\xb5\x2f\xfd"}
_NO_TEXT = {
    b"PK\x03\x04": "a ZIP archive, perhaps a spreadsheet",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"PAR1": "Parquet",
}


def compression_of(path: str) -> str | None:
    """``gzip``, ``Zstandard`` or None, by the ending."""
    return ENDINGS.get(PurePosixPath(path).suffix.lower())


def without_compression(path: str) -> PurePosixPath:
    """The path without an ending that says how the file is compressed."""
    return PurePosixPath(path).with_suffix("") if compression_of(path) else PurePosixPath(path)


@contextmanager
def opened(file: Path, path: str) -> Iterator[Any]:
    """The file's content as a stream of bytes, unpacked.

    Args:
        file: what to read.
        path: how the recipe and so the errors call it; its ending counts.

    Raises:
        BadDataError: it holds something else than its name says, or is damaged (exit 65).
    """
    packed = compression_of(path)
    with file.open("rb") as stream:
        _named_rightly(stream.read(8), packed, path)
        stream.seek(0)
        try:
            if packed == "Zstandard":
                import pyarrow as pa

                yield pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
            elif packed == "gzip":
                yield gzip.GzipFile(fileobj=stream)
            else:
                yield stream
        except (EOFError, zlib.error, OSError) as error:
            if packed is None:
                raise
            raise BadDataError(
                f"{path}: broken {packed} data: {error}", "write the file again"
            ) from error


def read_all(file: Path, path: str) -> bytes:
    """The file's whole content, unpacked.

    Raises:
        BadDataError: as ``opened``, or it unpacks to more than ``LARGEST`` bytes.
    """
    if compression_of(path) is None:
        with opened(file, path) as stream:
            return bytes(stream.read())
    pieces: list[bytes] = []
    size = 0
    with opened(file, path) as stream:
        while piece := stream.read(1 << 20):
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST:
                raise BadDataError(
                    f"{path}: unpacks to more than {LARGEST >> 20} MiB",
                    "unpack it, divide it and name the parts: data.source.path=data/parts/*.jsonl",
                )
    return b"".join(pieces)


def _named_rightly(head: bytes, packed: str | None, path: str) -> None:
    if packed is not None:
        if head and not head.startswith(_MAGIC[packed]):
            raise BadDataError(
                f"{path}: holds no {packed} data, though its ending says so",
                f"rename it to {without_compression(path).name}, or compress it",
            )
        return
    for ending, name in ENDINGS.items():
        if head.startswith(_MAGIC[name]):
            raise BadDataError(
                f"{path}: holds {name} data, and its ending does not say so",
                f"rename it to {PurePosixPath(path).name}{ending}, or unpack it",
            )
    for magic, name in _NO_TEXT.items():
        if head.startswith(magic):
            raise BadDataError(
                f"{path}: holds {name}, and no text",
                "store the rows as JSON Lines, JSON, CSV or Parquet, with the ending that says so",
            )
