"""The data steps that keep rows, or leave them out, by what a column says."""

from __future__ import annotations

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
    found = _sorted_out(step, rows, columns)
    return [row for row, text in found if text in step.values], _counted(step, found)


def drop(
    step: DropRows, rows: Sequence[SourceRow], columns: Mapping[str, str]
) -> tuple[list[SourceRow], dict[str, int]]:
    """The rows with none of the values, and how many have each; raises as ``keep``."""
    found = _sorted_out(step, rows, columns)
    return [row for row, text in found if text not in step.values], _counted(step, found)


def _sorted_out(
    step: KeepRows | DropRows, rows: Sequence[SourceRow], columns: Mapping[str, str]
) -> list[tuple[SourceRow, str]]:
    return [(row, _text(row, step.column, columns)) for row in rows]


def _text(row: SourceRow, name: str, columns: Mapping[str, str]) -> str:
    null = row.values.get(columns.get(name, name), "") is None
    return "null" if null else as_text(row, name, columns)


def _counted(step: KeepRows | DropRows, found: Sequence[tuple[SourceRow, str]]) -> dict[str, int]:
    return {value: sum(text == value for _, text in found) for value in step.values}
