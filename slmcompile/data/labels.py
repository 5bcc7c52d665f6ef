"""The JSON object and the label within an answer, for references and predictions alike.

Model output is anything: broken JSON, a list, a thousand brackets. Nothing here raises on it.
"""

from __future__ import annotations

import json
from typing import Any

from slmcompile.files.strict_json import decoder

_DECODER = decoder()


def parse_json(text: str) -> tuple[bool, Any]:
    """Whether the whole text is one JSON value (RFC 8259), and the value."""
    try:
        value, end = _DECODER.raw_decode(text.strip())
    except (ValueError, RecursionError):
        return False, None
    return end == len(text.strip()), value


def same_json(one: Any, other: Any) -> bool:
    """Equality of JSON values: key order is nothing, 1 equals 1.0, true does not equal 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def label_of(answer: str, key: str | None) -> str | None:
    """The label of an answer.

    Args:
        answer: a completion or a prediction.
        key: key of the answer's JSON object that is the label; None takes the whole answer.

    Returns:
        The label (stripped text, or JSON where the value is no string); None where the answer
        holds none.
    """
    if key is None:
        return answer.strip()
    valid, value = parse_json(answer)
    if not valid or not isinstance(value, dict) or value.get(key) is None:
        return None
    found = value[key]
    return found.strip() if isinstance(found, str) else json.dumps(found, sort_keys=True)


def label_value(answer: str, key: str) -> Any:
    """The label as the answer's JSON object has it, of any type; None where it holds none."""
    valid, value = parse_json(answer)
    return value.get(key) if valid and isinstance(value, dict) else None


def label_span(answer: str, key: str) -> tuple[int, int, Any] | None:
    """Where the label's value stands in an answer's JSON object, [start, end), and the value.

    None where ``label_of`` finds no label. Of a key that occurs twice it is the last, as there.
    """
    if label_of(answer, key) is None:
        return None
    found = None
    place = answer.index("{") + 1
    while answer[(place := _skip(answer, place))] != "}":
        name, place = _DECODER.raw_decode(answer, place)
        start = _skip(answer, _skip(answer, place) + 1)  # behind the colon
        value, place = _DECODER.raw_decode(answer, start)
        if name == key:
            found = (start, place, value)
        place = _skip(answer, place)
        place += answer[place] == ","
    return found


def _skip(text: str, place: int) -> int:
    while text[place] in " \t\r\n":
        place += 1
    return place
