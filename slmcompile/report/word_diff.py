"""Where a prediction differs from its reference, word by word, as HTML."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from slmcompile.report.text import escape, shorten

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
# The matcher is quadratic and a model may answer at any length.
_LONGEST = 1500
# Below this similarity the two have only spaces and signs in common: shown whole, not in shreds.
_ALIKE = 0.5


def difference(reference: str, prediction: str) -> str:
    """The prediction with what is too much in ``<ins>`` and what is missing in ``<del>``.

    A prediction that has little in common with its reference is one ``<ins>``.
    """
    if max(len(reference), len(prediction)) > _LONGEST:
        return escape(shorten(prediction, _LONGEST))
    before, after = _WORD.findall(reference), _WORD.findall(prediction)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    if prediction and matcher.ratio() < _ALIKE:
        return f"<ins>{escape(prediction)}</ins>"
    parts: list[str] = []
    for kind, b0, b1, a0, a1 in matcher.get_opcodes():
        old, new = "".join(before[b0:b1]), "".join(after[a0:a1])
        if kind == "equal":
            parts.append(escape(new))
            continue
        if old:
            parts.append(f"<del>{escape(old)}</del>")
        if new:
            parts.append(f"<ins>{escape(new)}</ins>")
    return "".join(parts)
