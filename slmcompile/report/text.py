"""Values as text: numbers people can compare, and untrusted strings that cannot hide anything."""

from __future__ import annotations

import html
import math
import unicodedata
from typing import Any, TypeGuard

MISSING = "–"
# Format characters reorder or hide text (bidi overrides, zero-width); controls move a cursor;
# surrogates cannot be written as UTF-8.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    """``text`` with every control, bidi and invisible character written as ``⟨U+202E⟩``.

    Line feeds and tabs stay.
    """
    return "".join(
        f"⟨U+{ord(char):04X}⟩"
        if char not in "\n\t" and unicodedata.category(char) in _HIDDEN_CATEGORIES
        else char
        for char in text
    )


def escape(value: Any) -> str:
    """Any value as HTML text or attribute value: visible and escaped, quotes too."""
    return html.escape(visible(str(value)), quote=True)


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters, the cut said in words."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite number (and no bool)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 3) -> str:
    """A fixed number of decimals, so that a column aligns; a dash for no number."""
    return f"{value:,.{digits}f}" if is_number(value) else MISSING


def scientific(value: Any) -> str:
    """A small quantity (a learning rate, a logit difference) as ``2.0e-04``."""
    if not is_number(value):
        return MISSING
    return "0" if value == 0 else f"{value:.1e}"


def count(value: Any) -> str:
    """A whole number with separators."""
    return f"{round(value):,}" if is_number(value) else MISSING


def size(value: Any) -> str:
    """Bytes as MB or GB (powers of ten)."""
    if not is_number(value):
        return MISSING
    if value >= 1e9:
        return f"{value / 1e9:.2f} GB"
    return f"{value / 1e6:,.0f} MB" if value >= 1e7 else f"{value / 1e6:.2f} MB"


def duration(value: Any) -> str:
    """Seconds as ``4 min 05 s``."""
    if not is_number(value):
        return MISSING
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
