"""Rows are kept or left out by what a column says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slmcompile.console.printable import shortened
from slmcompile.data_steps.step import DataStep, StepKeys

Values = Annotated[
    tuple[Annotated[str, Field(max_length=1000)], ...], Field(min_length=1, max_length=1000)
]


class ByValue(StepKeys):
    """A column and what it may say."""

    column: str = Field(description="Column, as a template names it.")
    values: Values = Field(
        description="Values as a template writes them: text as it is; numbers, `true`, `null`,"
        " `nan` as text. An empty cell of a CSV file is empty text."
    )


class KeepRows(ByValue):
    """Only rows with one of these values in a column are kept."""

    type: Literal["keep"] = Field(description="Rows with one of these values are kept.")


class DropRows(ByValue):
    """Rows with one of these values in a column are left out."""

    type: Literal["drop"] = Field(description="Rows with one of these values are left out.")


def _words(step: ByValue) -> str:
    return f"{step.type} {shortened(step.column)}"


ENTRIES = (
    DataStep(
        name="keep",
        section=KeepRows,
        program="slmcompile.data.by_value:keep",
        words=_words,
        row_by_row=True,
        hint="slmcompile.data.by_value:values_there",
    ),
    DataStep(
        name="drop",
        section=DropRows,
        program="slmcompile.data.by_value:drop",
        words=_words,
        row_by_row=True,
        hint="slmcompile.data.by_value:values_there",
    ),
)
