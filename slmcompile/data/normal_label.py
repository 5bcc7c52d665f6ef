"""The one writing of a label: ``data.normalize_labels``, for what is trained and what is compared.

``1``, ``1.0`` and ``true``, or ``yes`` and ``yes `` with a space behind, are one label to a reader
and several texts to a model. Each step takes one kind of difference away.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from slmcompile.data.labels import label_span, label_value
from slmcompile.recipe.schema import LabelStep

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")
_TRUTH = {"true": "1", "false": "0"}
_NO_WIDTH = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))


def _space(text: str) -> str:
    return " ".join(text.translate(_NO_WIDTH).split())


def _number(text: str) -> str:
    """Whole numbers alone: 3.1 and 3.10 may be versions, 7 and 007 codes."""
    whole = _WHOLE.fullmatch(text)
    if whole:
        return "0" if whole[1] == "-0" else whole[1]
    return _TRUTH.get(text.lower(), text)


_STEPS: Mapping[LabelStep, Callable[[str], str]] = {
    "unicode": lambda text: unicodedata.normalize("NFKC", text),
    "space": _space,
    "number": _number,
    "case": str.lower,
}
STEPS: tuple[LabelStep, ...] = tuple(_STEPS)
"""Every step, in the order in which they are taken."""


def normal_text(text: str, steps: Iterable[LabelStep]) -> str:
    """A label as the steps write it."""
    wanted = frozenset(steps)
    for step, change in _STEPS.items():
        if step in wanted:
            text = change(text)
    return text


def normal_json(value: Any, steps: Iterable[LabelStep]) -> str:
    """A label within a JSON object as the steps write it, as JSON; ``number`` makes it a number.

    Of a value that is no text, numbers and truth values alone have more than one writing.
    """
    wanted = frozenset(steps)
    if not isinstance(value, str):
        wanted &= {"number"}
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    text = normal_text(text, wanted)
    if not isinstance(value, str) or ("number" in wanted and _WHOLE.fullmatch(text)):
        return text
    return json.dumps(text, ensure_ascii=False)


def normal_answer(answer: str, key: str | None, steps: Iterable[LabelStep]) -> str:
    """An answer with its label as the steps write it and all else as it was.

    Args:
        answer: a completion or a prediction.
        key: as of ``labels.label_of``.
        steps: the recipe's ``data.normalize_labels``.
    """
    if key is None:
        return normal_text(answer, steps)
    value = label_value(answer, key)
    if value is None or normal_json(value, steps) == normal_json(value, ()):
        return answer
    found = label_span(answer, key)
    if found is None:
        return answer
    start, end, value = found
    return f"{answer[:start]}{normal_json(value, steps)}{answer[end:]}"
