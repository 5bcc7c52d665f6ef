"""Lines of a text file one by one, so that a large one is never in memory as a whole."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from slmcompile.console.errors import BadDataError
from slmcompile.data.compression import compression_of, opened, read_all
from slmcompile.data.encoding import decoded


def is_plain(path: str, encoding: str) -> bool:
    """Whether a file is neither compressed nor of an encoding of which bytes alone say nothing."""
    return compression_of(path) is None and codecs.lookup(encoding).name == "utf-8"


def lines_of(file: Path, path: str) -> Iterator[str]:
    """The lines of a plain file in UTF-8 without their line feeds; a byte order mark is skipped.

    Args:
        file: what to read.
        path: how errors call it.

    Raises:
        BadDataError: it is empty, or no text in UTF-8; the line is named (exit 65).
    """
    empty, looked = True, False
    with opened(file, path) as stream:
        for number, raw in enumerate(stream):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError:
                decoded(read_all(file, path), path, "utf-8")  # says where and what it may be
                raise
            if "\0" in line and not looked:
                looked = True
                decoded(read_all(file, path), path, "utf-8")  # it may be UTF-16
            if not number:
                line = line.removeprefix("\ufeff").removeprefix("\ufeff")
            empty = empty and not line.strip()
            yield line.removesuffix("\n")
    if empty:
        raise BadDataError(f"{path}: the file is empty", "add rows or name another file")
