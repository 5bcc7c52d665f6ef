"""The first rows of the recipe's data files, so that a wrong column name costs no run.

Reads at most ``LIMIT`` bytes a file, with the parsers of the ``data`` stage. Parquet takes a heavy
import and hub data a network: both are left to that stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slmcompile.data.files import contained
from slmcompile.data.formats import format_of, parse_csv, parse_json, parse_jsonl
from slmcompile.data.rows import SourceRow
from slmcompile.errors import BadDataError
from slmcompile.recipe.schema import Data, FileData

LIMIT = 64 << 10
"""Bytes read of a file."""

_PARSERS: dict[str, Callable[[str, str], Iterator[SourceRow]]] = {
    "json": parse_json,
    "jsonl": parse_jsonl,
    "csv": parse_csv,
}


@dataclass(frozen=True)
class FirstRows:
    """Rows from the beginning of the files.

    Attributes:
        rows: as the formats hold them, each with its ``file:line``.
        whole: whether these are all rows of all files.
    """

    rows: tuple[SourceRow, ...]
    whole: bool


def first_rows(config: Data, project: Path) -> FirstRows:
    """The first rows of every file of the source.

    Raises:
        BadDataError: what was read is broken (exit 65).
        RefusedError: a path leads out of the project (exit 77).
    """
    source = config.source
    if not isinstance(source, FileData):
        return FirstRows((), whole=False)
    paths = [source.path] if source.path is not None else list((source.files or {}).values())
    found = [_of_file(project, path, source.format) for path in paths]
    return FirstRows(
        tuple(row for each in found for row in each.rows), all(each.whole for each in found)
    )


def _of_file(project: Path, path: str, file_format: str) -> FirstRows:
    file = contained(project, path)
    file_format = format_of(file, path, file_format)
    if file_format not in _PARSERS:
        return FirstRows((), whole=False)
    with file.open("rb") as stream:
        raw = stream.read(LIMIT + 1)
    whole = len(raw) <= LIMIT
    # The last line of a part is broken off; where the first line alone is longer, nothing is left.
    text = _decoded(raw if whole else raw[: raw.rfind(b"\n") + 1], path)
    if not text.strip():
        return FirstRows((), whole=False)
    # An array or a quoted cell that goes on behind the part looks broken where the part ends.
    strict = whole or file_format == "jsonl"
    return FirstRows(tuple(_unbroken(_PARSERS[file_format](text, path), strict=strict)), whole)


def _unbroken(rows: Iterator[SourceRow], *, strict: bool) -> Iterator[SourceRow]:
    try:
        yield from rows
    except BadDataError:
        if strict:
            raise


def _decoded(raw: bytes, path: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadDataError(f"{path}:{line}: not UTF-8", "save the file as UTF-8") from error
