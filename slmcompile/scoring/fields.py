"""F1 over the fields of JSON answers: what is right, missing and made up, field by field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from slmcompile.data.labels import parse_json
from slmcompile.scoring.measures import Sums, ratio


def fields_of(text: str) -> Counter[tuple[str, str]]:
    """Path and value of every leaf of a JSON text, as a bag; a list's order is nothing.

    A text that is no JSON has one field, itself; 1 and 1.0 are one value.
    """
    valid, value = parse_json(text)
    return Counter(_leaves(value, "")) if valid else Counter([("", text.strip())])


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for below in value:
            yield from _leaves(below, f"{path}[]")
    else:
        whole = isinstance(value, float) and value.is_integer()
        yield path, json.dumps(int(value) if whole else value, sort_keys=True)


def _terms(row: Mapping[str, Any]) -> tuple[float, float]:
    """Twice the fields that are right, and the fields of answer and reference together."""
    told, wanted = fields_of(str(row["compared"])), fields_of(str(row["reference"]))
    return 2.0 * (told & wanted).total(), float(told.total() + wanted.total())


FIELD_F1 = Sums(_terms, ratio)
"""2·TP / (2·TP + FP + FN) over all fields of all rows (micro)."""
