"""Labels that are written in several ways: trained as several texts while a reader counts one."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import combinations

from slmcompile.console.printable import shortened
from slmcompile.data.labels import label_value
from slmcompile.data.normal_label import STEPS, normal_json
from slmcompile.data.report_facts import OneLabel, Writing
from slmcompile.recipe.schema import LabelStep

LISTED = 20
"""Labels and writings of each that are kept."""

_SURE: tuple[LabelStep, ...] = ("space", "number")
_TRIED: tuple[LabelStep, ...] = ("space", "case", "unicode", "number")
_LONGEST = 80


def writing_of(answer: str, key: str | None) -> str:
    """How an answer's label is written, as JSON.

    Args:
        answer: a row's answer.
        key: the recipe's ``data.label``.
    """
    value = None if key is None else label_value(answer, key)
    return normal_json(answer if value is None else value, ())


def several_writings(answers: Iterable[tuple[str, str]], key: str | None) -> tuple[OneLabel, ...]:
    """Labels with more than one writing, the sure ones first, then the most frequent.

    Args:
        answers: each row's answer and place.
        key: the recipe's ``data.label``.
    """
    return of_writings((writing_of(answer, key), 1, where) for answer, where in answers)


def of_writings(found_in: Iterable[tuple[str, int, str]]) -> tuple[OneLabel, ...]:
    """The same of writings.

    Args:
        found_in: a writing, how many rows have it, and the place of the first of them; any number
            of times, in the order of the rows.
    """
    rows: Counter[str] = Counter()
    first: dict[str, str] = {}
    alike: dict[str, dict[str, str]] = {}
    for written, count, where in found_in:
        rows[written] += count
        if written not in first:
            first[written] = where
            value = json.loads(written)
            composed = unicodedata.normalize("NFC", value) if isinstance(value, str) else value
            same = alike.setdefault(normal_json(value, STEPS), {})
            same[written] = normal_json(composed, _SURE)
    found: list[OneLabel] = []
    for same in alike.values():
        if len(same) > 1:
            often = sorted(same, key=lambda written: (-rows[written], written))
            writings = tuple(Writing(_shown(each), rows[each], first[each]) for each in often)
            # Either two are one without case, or case does not make one of all.
            by_case = {normal_json(json.loads(each), ("case", "unicode")) for each in same}
            sure = len(set(same.values())) < len(same) or len(by_case) > 1
            found.append(OneLabel(writings[:LISTED], sure, _fewest_steps(same)))
    found.sort(key=lambda one: (not one.sure, -sum(each.rows for each in one.writings)))
    return tuple(found[:LISTED])


def _fewest_steps(writings: Iterable[str]) -> tuple[LabelStep, ...]:
    values = [json.loads(written) for written in writings]
    for count in range(1, len(STEPS)):
        for steps in combinations(_TRIED, count):
            if len({normal_json(value, steps) for value in values}) == 1:
                return steps
    return STEPS


def _shown(written: str) -> str:
    """Escaped where two writings would look the same."""
    if unicodedata.normalize("NFKC", written) == written:
        return shortened(written, _LONGEST)
    return shortened(json.dumps(json.loads(written)), _LONGEST)
