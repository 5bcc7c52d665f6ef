"""When two prompts are the same for a reader: case, spacing and punctuation do not count."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache


@cache
def _no_punctuation() -> dict[int, None]:
    every = range(sys.maxunicode + 1)
    return dict.fromkeys(c for c in every if unicodedata.category(chr(c)).startswith("P"))


def normalised(prompt: str) -> str:
    """The prompt case-folded, in NFKC, without punctuation, white space collapsed.

    Symbols (``+``, ``=``, emoji) stay: they carry meaning. Text that is punctuation alone stays
    as it is.
    """
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    return " ".join(folded.translate(_no_punctuation()).split()) or folded
