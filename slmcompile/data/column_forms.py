"""What the columns of rows hold: texts, numbers, objects or conversations, and how many of each.

Knows nothing of what a column is for (``slmcompile.data.column_roles``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from slmcompile.data.formats import json_value
from slmcompile.data.rows import SourceRow

Form = Literal["text", "number", "truth", "object", "conversation", "list", "mixed", "empty"]

_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_HASH = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}|[0-9a-f]{32,64}")
_SPEAKERS = ("role", "from")


@dataclass(frozen=True, slots=True)
class Column:
    """What one column holds.

    Attributes:
        name: as in the file.
        form: what its values are; of values that are JSON in a text, what the text says.
        rows: all rows of the source.
        filled: rows that have a value, and not white space alone.
        distinct: different values among them.
        longest: characters of the longest.
        mean: characters of a value on average.
        counts: whether it numbers the rows, or names each by a hash: an identifier.
    """

    name: str
    form: Form
    rows: int
    filled: int
    distinct: int
    longest: int
    mean: float
    counts: bool

    @property
    def one_a_row(self) -> bool:
        """Whether every row has another value."""
        return self.distinct == self.filled == self.rows

    @property
    def few(self) -> bool:
        """Whether it holds few short values again and again, as labels are."""
        return (
            self.form in {"text", "number", "truth"}
            and 2 <= self.distinct <= self.filled / 5
            and self.distinct <= MOST_LABELS
            and self.longest <= LONGEST_LABEL
        )


MOST_LABELS = 200
"""Different answers up to which they may be labels."""

LONGEST_LABEL = 60
"""Characters of a label."""


def columns_of(rows: Sequence[SourceRow]) -> tuple[Column, ...]:
    """Every column that some row has, in the order in which rows name them."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.values.items():
            values.setdefault(str(name), []).append(value)
    return tuple(_column(name, found, len(rows)) for name, found in values.items())


def _column(name: str, values: Sequence[Any], rows: int) -> Column:
    filled = [value for value in values if not _blank(value)]
    texts = [value if isinstance(value, str) else repr(value) for value in filled]
    form = _form(filled)
    return Column(
        name=name,
        form=form,
        rows=rows,
        filled=len(filled),
        distinct=len(set(texts)),
        longest=max(map(len, texts), default=0),
        mean=sum(map(len, texts)) / len(texts) if texts else 0.0,
        counts=len(set(texts)) == rows and _counts(texts, form),
    )


def _blank(value: Any) -> bool:
    return value is None or value in ("", [], {}) or (isinstance(value, str) and value.isspace())


def _counts(texts: Sequence[str], form: Form) -> bool:
    if form == "text":
        return all(_HASH.fullmatch(text.strip()) for text in texts)
    if form != "number" or not all(_WHOLE.fullmatch(text.strip()) for text in texts):
        return False
    numbers = [int(text) for text in texts]
    return all(after > before for before, after in pairwise(numbers))


def _form(values: Sequence[Any]) -> Form:
    found: set[Form] = set()
    for value in values:
        found.add(_form_of(value))
        if len(found) > 1 and not found <= {"number", "truth", "text"}:
            return "mixed"
    if not found:
        return "empty"
    if len(found) == 1:
        return found.pop()
    # Numbers among texts are texts: house numbers, versions, labels that a spreadsheet has read.
    return "number" if found == {"number", "truth"} else "text"


def _form_of(value: Any) -> Form:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    if not isinstance(value, str):
        return _form_of_nested(value)
    if value.lstrip()[:1] in {"[", "{"}:
        try:
            return _form_of_nested(json_value(value))
        except ValueError:
            return "text"
    return "number" if _NUMBER.fullmatch(value.strip()) else "text"


def _form_of_nested(value: Any) -> Form:
    if isinstance(value, Mapping):
        return "object"
    if not isinstance(value, list):
        return "mixed"
    speaks = value and all(
        isinstance(each, Mapping) and any(key in each for key in _SPEAKERS) for each in value
    )
    return "conversation" if speaks else "list"
