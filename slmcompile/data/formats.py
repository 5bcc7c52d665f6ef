"""Rows out of one file's content: JSON, JSON Lines, CSV and Parquet.

Each function turns one file into rows that know their line, so that every later error can name
it. Knows nothing of templates or of where files may lie.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from slmcompile.data.files import contained, read_text
from slmcompile.data.rows import SourceRow, listed
from slmcompile.errors import BadDataError
from slmcompile.printable import shortened

_SPACE = re.compile(r"[ \t\r\n]*")
_ENDINGS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"key {_twice(name for name, _ in pairs)} occurs twice")
    return found


def _twice(names: Iterable[str]) -> str:
    """The first name that occurs more than once, as messages show it; empty where none does."""
    found = next((name for name, count in Counter(names).items() if count > 1), None)
    return "" if found is None else repr(shortened(found))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)


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
    for number, line in enumerate(text.split("\n"), start=1):
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


def parse_csv(text: str, name: str) -> Iterator[SourceRow]:
    """Comma-separated values with a header line (RFC 4180); cells are text."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    while True:
        where = f"{name}:{line}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise BadDataError(
                f"{where}: broken CSV: {error}", "quote cells that hold commas, quotes or lines"
            ) from error
        if cells is None:
            return
        line = reader.line_num + 1
        if not cells:
            continue
        if header is None:
            header = cells
            if twice := _twice(header):
                raise BadDataError(
                    f"{where}: column {twice} occurs twice", "give each column a name of its own"
                )
        elif len(cells) != len(header):
            raise BadDataError(
                f"{where}: {len(cells)} cells, the header has {len(header)}",
                f"the columns are {listed(header)}; quote cells that hold commas",
            )
        else:
            yield SourceRow(dict(zip(header, cells, strict=True)), where)


def parse_parquet(file: Path, name: str) -> Iterator[SourceRow]:
    """Rows of a Parquet file; errors name the row number, from 0."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open("rb") as stream:
            table = pq.read_table(stream, use_threads=False)
            rows: list[dict[str, Any]] = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadDataError(f"{name}: not Parquet: {reason}", "write the file again") from error
    for number, values in enumerate(rows):
        yield SourceRow(values, f"{name}: row {number}")


_TEXT_FORMATS: dict[str, Callable[[str, str], Iterator[SourceRow]]] = {
    "json": parse_json,
    "jsonl": parse_jsonl,
    "csv": parse_csv,
}


def format_of(file: Path, path: str, file_format: str) -> str:
    """``file_format``, or what the ending says where it is ``auto``.

    Raises:
        BadDataError: the ending says no format (exit 65).
    """
    if file_format != "auto":
        return file_format
    if found := _ENDINGS.get(file.suffix.lower()):
        return found
    raise BadDataError(
        f"{path}: the ending {file.suffix!r} says no format",
        f"rename it ({', '.join(sorted(_ENDINGS))}) or set data.source.format",
    )


def read_file(project: Path, path: str, file_format: str = "auto") -> list[SourceRow]:
    """All rows of one file of the project.

    Args:
        project: the project's folder; nothing outside is read.
        path: the file, relative to the project.
        file_format: ``json``, ``jsonl``, ``csv``, ``parquet``, or ``auto`` to go by the ending.

    Raises:
        BadDataError: no such file, not UTF-8, broken, or without rows (exit 65).
        RefusedError: outside the project or not a regular file (exit 77).
    """
    file = contained(project, path)
    file_format = format_of(file, path, file_format)
    if file_format == "parquet":
        rows = list(parse_parquet(file, path))
    else:
        rows = list(_TEXT_FORMATS[file_format](read_text(file, path), path))
    if not rows:
        raise BadDataError(f"{path}: the file has no rows", "add rows or name another file")
    return rows
