"""The data steps that keep rows, or leave them out, by what a column says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import isfinite

from slmcompile.console.printable import shortened
from slmcompile.data.rows import SourceRow, as_text
from slmcompile.data_steps.by_value import ByValue, DropRows, KeepRows

_LISTED = 12


def keep(
    step: KeepRows, rows: Sequence[SourceRow], columns: Mapping[str, str]
) -> tuple[list[SourceRow], dict[str, int]]:
    """The rows with one of the values, and how many have each.

    Raises:
        BadDataError: a row does not have the column, or something in it that has no text.
    """
    return _sorted_out(step, rows, columns, kept=True)


def drop(
    step: DropRows, rows: Sequence[SourceRow], columns: Mapping[str, str]
) -> tuple[list[SourceRow], dict[str, int]]:
    """The rows with none of the values, and how many have each; raises as ``keep``."""
    return _sorted_out(step, rows, columns, kept=False)


def _sorted_out(
    step: ByValue,
    rows: Sequence[SourceRow],
    columns: Mapping[str, str],
    *,
    kept: bool,
) -> tuple[list[SourceRow], dict[str, int]]:
    """The rows of which it is so that they have one of the values, and how many have each."""
    texts = _texts(step, rows, columns)
    values, counts = frozenset(step.values), Counter(texts)
    found = [row for row, text in zip(rows, texts, strict=True) if (text in values) is kept]
    return found, {value: counts[value] for value in step.values}


def values_there(step: ByValue, rows: Sequence[SourceRow], columns: Mapping[str, str]) -> str:
    """What a column says, to whoever has named values that leave no row."""
    often = [value for value, _ in Counter(_texts(step, rows, columns)).most_common(_LISTED + 1)]
    near = [close for value in step.values for close in get_close_matches(value, often, n=1)]
    near += [each for each in often if each.casefold() in {v.casefold() for v in step.values}]
    meant = f"did you mean {near[0]!r}? " if near and near[0] not in step.values else ""
    more = ", …" if len(often) > _LISTED else ""
    return f"{meant}values there: {', '.join(map(shortened, often[:_LISTED]))}{more}"


def _texts(step: ByValue, rows: Sequence[SourceRow], columns: Mapping[str, str]) -> list[str]:
    name = columns.get(step.column, step.column)
    # A key that some rows do not have is null in those; a column that none has is a mistake.
    known = any(name in row.values for row in rows)
    return [
        "null" if known and name not in row.values else _text(row, step.column, columns)
        for row in rows
    ]


def _text(row: SourceRow, name: str, columns: Mapping[str, str]) -> str:
    value = row.values.get(columns.get(name, name), "")
    if value is None:
        return "null"
    # What no template can write may still be what a step leaves out.
    if isinstance(value, float) and not isfinite(value):
        return repr(value)
    return as_text(row, name, columns)
