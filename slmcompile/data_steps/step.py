"""What is to be known of a data step before any row is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from slmcompile.registry.section import Section


class StepKeys(Section):
    """One thing that is done with the rows of every split, before templates and splits."""

    type: str = Field(description="Which step.")


@dataclass(frozen=True)
class DataStep:
    """One thing that can be done with rows.

    Attributes:
        name: as in ``data.steps``.
        section: its keys, and no others.
        program: ``package.module:name`` of ``(step, rows, columns) -> (rows, facts)``: the rows
            of one split as the source holds them, ``data.columns``, and what it counted by name,
            which is added up over the splits. Raises BadDataError where it cannot do it with a row.
        words: a step in a few words, for the data report.
        row_by_row: whether it leaves out or changes each row by itself, so that the first rows
            tell what will become of the others: a plan then runs the program over them, which
            imports nothing heavy.
        hint: ``package.module:name`` of ``(step, rows, columns) -> str``: how to mend it where it
            leaves none of the rows; empty where there is nothing to say of them.
        packages: installed packages that its result depends on.
        epoch: raised by hand when it makes other rows of equal ones.
    """

    name: str
    section: type[StepKeys]
    program: str
    words: Callable[[Any], str]
    row_by_row: bool = False
    hint: str = ""
    packages: tuple[str, ...] = ()
    epoch: int = 1
