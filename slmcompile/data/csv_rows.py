"""Rows out of the text of a CSV file, whatever stands between its cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.data.rows import SourceRow, listed, twice

_LOOKED_AT = 64 << 10
_ROWS = 20
_COMMA = _LOOKED_AT  # more than any header's cells
_LONGEST = (1 << 31) - 1  # a C long, which some platforms have 32 bits for
_OTHERS = (";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAID = re.compile(r'sep=([^"\r\n])(?:\r\n|\r|\n)', re.IGNORECASE)  # Excel's own first line


def delimiter_name(delimiter: str) -> str:
    """As messages call it: ``semicolons``."""
    return _NAMES.get(delimiter, repr(delimiter))


def find_delimiter(text: str) -> str:
    """What stands between the cells, by the header and the first rows.

    That by which the header has several cells, and most of the first rows, one after the other from
    the first on, have as many. Among equals a comma, then what makes most cells; a comma where
    nothing gives the first row as many cells as the header.
    """
    if said := _SAID.match(text):
        return said[1]
    best, most = ",", (-1, 0)
    for each in (",", *_OTHERS):
        header, *rows = _cells(text, each) or [0]
        if header < 2 or rows[:1] not in ([], [header]):
            continue
        agreeing = len(list(takewhile(header.__eq__, rows)))
        found = (agreeing, _COMMA if each == "," else header)
        if found > most:
            best, most = each, found
    return best


def _cells(text: str, delimiter: str) -> list[int]:
    """Cells of the header and of the first rows that are there whole."""
    reader = _reader(io.StringIO(text[:_LOOKED_AT], newline=""), delimiter)
    try:
        found = [len(cells) for cells in islice(filter(None, reader), _ROWS + 2)]
    except csv.Error:
        return []
    whole = found[:-1] if len(text) > _LOOKED_AT else found
    return whole[: _ROWS + 1]


def _reader(stream: io.StringIO, delimiter: str, *, strict: bool = False) -> Any:
    """A reader of cells of any length: the module's own limit is 131,072 characters."""
    csv.field_size_limit(_LONGEST)
    return csv.reader(stream, strict=strict, delimiter=delimiter)


def parse_csv(text: str, name: str, delimiter: str | None = None) -> Iterator[SourceRow]:
    """Delimited values with a header line (RFC 4180); cells are text."""
    delimiter = delimiter or find_delimiter(text)
    marks = delimiter_name(delimiter)
    stream = io.StringIO(text, newline="")
    skipped = 0
    if said := _SAID.match(text):
        stream.seek(said.end())
        skipped = 1
    reader = _reader(stream, delimiter, strict=True)
    header: list[str] | None = None
    line = skipped + 1
    while True:
        where = f"{name}:{line}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise BadDataError(
                f"{where}: broken CSV: {error}", f"quote cells that hold {marks}, quotes or lines"
            ) from error
        if cells is None:
            return
        line = skipped + reader.line_num + 1
        if not cells:
            continue
        if header is None:
            header = cells
            if repeated := twice(header):
                raise BadDataError(
                    f"{where}: column {repeated} occurs twice", "give each column a name of its own"
                )
        elif len(cells) != len(header):
            raise BadDataError(
                f"{where}: {len(cells)} cells, the header has {len(header)}",
                f"the columns are {listed(header)}; quote cells that hold {marks}",
            )
        else:
            yield SourceRow(dict(zip(header, cells, strict=True)), where)
