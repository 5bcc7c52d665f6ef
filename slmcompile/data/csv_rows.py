"""Rows out of the text of a CSV file, whatever stands between its cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from slmcompile.data.rows import SourceRow, listed, twice
from slmcompile.errors import BadDataError

_LOOKED_AT = 64 << 10
_LONGEST = (1 << 31) - 1  # a C long, which some platforms have 32 bits for
_OTHERS = (";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAID = re.compile(r'sep=([^"\r\n])(?:\r\n|\r|\n)', re.IGNORECASE)  # Excel's own first line


def delimiter_name(delimiter: str) -> str:
    """As messages call it: ``semicolons``."""
    return _NAMES.get(delimiter, repr(delimiter))


def find_delimiter(text: str) -> str:
    """What stands between the cells, by the first two lines.

    A comma if the header has several cells by it. If it has one, a semicolon, a tab or a bar, if
    one of them gives header and first row the same number of cells, more than one.
    """
    if said := _SAID.match(text):
        return said[1]
    head = text[:_LOOKED_AT]
    counts = {each: _cells(head, each) for each in (",", *_OTHERS)}
    if counts[","][:1] > [1]:
        return ","
    divided = [each for each in _OTHERS if counts[each][:1] > [1] and len({*counts[each]}) == 1]
    return max(divided, key=lambda each: counts[each][0], default=",")


def _cells(text: str, delimiter: str) -> list[int]:
    """Cells of the header and of the first row."""
    reader = _reader(io.StringIO(text, newline=""), delimiter)
    try:
        return [len(cells) for cells in islice(filter(None, reader), 2)]
    except csv.Error:
        return []


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
