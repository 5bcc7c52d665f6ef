"""The data steps that keep rows, or leave them out, by what a column says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from slmcompile.data.rows import SourceRow, as_text
from slmcompile.data_steps.by_value import DropRows, KeepRows


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
    step: KeepRows | DropRows,
    rows: Sequence[SourceRow],
    columns: Mapping[str, str],
    *,
    kept: bool,
) -> tuple[list[SourceRow], dict[str, int]]:
    """The rows of which it is so that they have one of the values, and how many have each."""
    texts = [_text(row, step.column, columns) for row in rows]
    values, counts = frozenset(step.values), Counter(texts)
    found = [row for row, text in zip(rows, texts, strict=True) if (text in values) is kept]
    return found, {value: counts[value] for value in step.values}


def _text(row: SourceRow, name: str, columns: Mapping[str, str]) -> str:
    null = row.values.get(columns.get(name, name), "") is None
    return "null" if null else as_text(row, name, columns)
