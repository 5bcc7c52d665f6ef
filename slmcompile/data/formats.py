"""Rows out of one file's content: JSON, JSON Lines, CSV and Parquet.

Each parser turns one file into rows that know their line, so that every later error can name
it. Knows nothing of templates or of where files may lie.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.data.compression import compression_of, read_all, without_compression
from slmcompile.data.csv_rows import delimiter_name, find_delimiter, parse_csv
from slmcompile.data.encoding import decoded
from slmcompile.data.files import contained
from slmcompile.data.lines import is_plain, lines_of
from slmcompile.data.rows import SourceRow, twice
from slmcompile.files.strict_json import decoder
from slmcompile.sources.of_data.file import FileData

_BATCH = 4096
_SPACE = re.compile(r"[ \t\r\n]*")
_FORMATS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"key {twice(name for name, _ in pairs)} occurs twice")
    return found


_DECODER = decoder(_unique_keys)


def json_value(text: str) -> Any:
    """The value of a JSON text; a ValueError where it is broken or a key occurs twice."""
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _object(value: Any, where: str) -> SourceRow:
    if not isinstance(value, dict):
        raise BadDataError(
            f"{where}: the row is {type(value).__name__}, not an object",
            'write each row as {"column": value, ...}',
        )
    return SourceRow(value, where)


def _broken(where: str, error: Exception) -> BadDataError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return BadDataError(f"{where}: broken JSON: {reason}", "mend or remove the row")


def parse_jsonl(text: str, name: str) -> Iterator[SourceRow]:
    """One JSON object a line; blank lines are skipped."""
    return parse_lines(text.split("\n"), name)


def parse_lines(lines: Iterable[str], name: str) -> Iterator[SourceRow]:
    """The same of lines without their ends."""
    for number, line in enumerate(lines, start=1):
        content = line.strip(" \t\r")
        if not content:
            continue
        where = f"{name}:{number}"
        try:
            value, end = _DECODER.raw_decode(content)
        except (ValueError, RecursionError) as error:
            raise _broken(where, error) from error
        if end < len(content):
            raise _broken(where, ValueError(f"text after the object (column {end + 1})"))
        yield _object(value, where)


def parse_json(text: str, name: str) -> Iterator[SourceRow]:
    """One JSON array of objects, read element by element so that each knows its line."""
    place = _skip(text, 0)
    line = 1 + text.count("\n", 0, place)
    if text[place] != "[":
        raise BadDataError(
            f"{name}:{line}: the file is not an array of objects",
            "write [{...}, ...], or use JSON Lines (.jsonl)",
        )
    seen = place
    place = _skip(text, place + 1)
    number = 0
    while text[place : place + 1] != "]":
        line += text.count("\n", seen, place)
        seen = place
        where = f"{name}:{line} (element {number})"
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise _broken(where, error) from error
        yield _object(value, where)
        number += 1
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
            if text[place : place + 1] == "]":
                raise _broken(where, ValueError("a ',' after the last element"))
        elif text[place : place + 1] != "]":
            raise _broken(where, ValueError("no ',' or ']' after the element"))
    if _skip(text, place + 1) < len(text):
        line += text.count("\n", seen, place + 1)
        raise _broken(f"{name}:{line}", ValueError("text after the array"))


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def parse_parquet(file: Path, name: str) -> Iterator[SourceRow]:
    """Rows of a Parquet file; errors name the row number, from 0."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with file.open("rb") as stream:
            for batch in pq.ParquetFile(stream).iter_batches(_BATCH, use_threads=False):
                for values in batch.to_pylist():
                    yield SourceRow(values, f"{name}: row {number}", columnar=True)
                    number += 1
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadDataError(f"{name}: not Parquet: {reason}", "write the file again") from error


def format_of(path: str, file_format: str) -> str:
    """``file_format``, or what the ending says where it is ``auto``.

    Raises:
        BadDataError: the ending says no format, or it is a compressed Parquet file (exit 65).
    """
    ending = without_compression(path).suffix
    found = file_format if file_format != "auto" else _FORMATS.get(ending.lower())
    if found is None:
        raise BadDataError(
            f"{path}: the ending {ending!r} says no format",
            f"rename it ({', '.join(sorted(_FORMATS))}) or set data.source.format",
        )
    if found == "parquet" and compression_of(path):
        raise BadDataError(
            f"{path}: a Parquet file is compressed within, not as a whole", "unpack it"
        )
    return found


def delimiter_of(path: str, text: str, source: FileData) -> str:
    """What stands between the cells of a CSV file: declared, of its ending, or found."""
    if source.delimiter is not None:
        return "\t" if source.delimiter == "tab" else source.delimiter
    return "\t" if without_compression(path).suffix.lower() == ".tsv" else find_delimiter(text)


def parse(text: str, path: str, source: FileData) -> Iterator[SourceRow]:
    """The rows of a text file, or of the first part of one.

    Raises:
        BadDataError: the text is broken; the line is named (exit 65).
    """
    file_format = format_of(path, source.format)
    if file_format == "csv":
        return parse_csv(text, path, delimiter_of(path, text, source))
    return parse_json(text, path) if file_format == "json" else parse_jsonl(text, path)


@dataclass(frozen=True, slots=True)
class ReadFile:
    """One file of the source, and how it was read.

    Attributes:
        path: as the recipe names it.
        rows: its rows.
        format: ``json``, ``jsonl``, ``csv`` or ``parquet``.
        delimiter: what stands between the cells; None where that is no CSV file.
        encoding: of its text; None where it is Parquet.
        compression: ``gzip`` or ``Zstandard``, if it is compressed.
    """

    path: str
    rows: Sequence[SourceRow]
    format: str
    delimiter: str | None = None
    encoding: str | None = None
    compression: str | None = None


def not_empty(text: str, path: str) -> None:
    """Refuses a file without text (exit 65)."""
    if not text.strip():
        raise BadDataError(f"{path}: the file is empty", "add rows or name another file")


def read_file(
    project: Path,
    path: str,
    source: FileData,
    roots: Sequence[str] = (),
    kept: Callable[[Iterable[SourceRow]], Sequence[SourceRow]] = list,
) -> ReadFile:
    """All rows of one file of the project.

    Args:
        project: the project's folder; nothing outside is read.
        path: the file, relative to the project.
        source: how it is written.
        roots: as of ``contained``.
        kept: what keeps the rows, which come one by one.

    Raises:
        BadDataError: no such file, of another encoding, broken, or without rows (exit 65).
        RefusedError: outside the project or not a regular file (exit 77).
    """
    file = contained(project, path, roots)
    file_format = format_of(path, source.format)
    if file_format == "parquet":
        found = ReadFile(path, kept(parse_parquet(file, path)), file_format)
    elif file_format == "jsonl" and is_plain(path, source.encoding):
        rows = kept(parse_lines(lines_of(file, path), path))
        found = ReadFile(path, rows, file_format, None, source.encoding)
    else:
        text = decoded(read_all(file, path), path, source.encoding)
        not_empty(text, path)
        found = ReadFile(
            path,
            kept(parse(text, path, source)),
            file_format,
            delimiter_of(path, text, source) if file_format == "csv" else None,
            source.encoding,
            compression_of(path),
        )
    if not found.rows:
        raise BadDataError(f"{path}: the file has no rows", "add rows or name another file")
    return found


def how_read(files: Sequence[ReadFile]) -> list[str]:
    """A line for each way of reading that is not the plainest, with the first file read so."""
    ways: dict[str, list[str]] = {}
    for file in files:
        parts = [
            f"divided by {delimiter_name(file.delimiter)}"
            if file.delimiter not in {None, ","}
            else "",
            f"in {file.encoding}" if file.encoding not in {None, "utf-8"} else "",
            f"unpacked ({file.compression})" if file.compression else "",
        ]
        if way := ", ".join(filter(None, parts)):
            ways.setdefault(way, []).append(file.path)
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {way}"
        for way, paths in ways.items()
    ]
