"""Canonical JSON: equal values give equal bytes, whatever the order, platform or hash seed."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from typing import Any


def canonical_json(value: Any) -> str:
    """``value`` as JSON with sorted keys, NFC strings, ``repr`` floats, −0.0 as 0.0 and no NaN.

    Raises:
        ValueError: ``value`` holds NaN, an infinity or something JSON does not know.
    """
    try:
        text = _compact(value)
    except (TypeError, ValueError):
        text = ""
    # Text of ASCII alone is NFC already; most specs are, and this way they are never walked by us.
    if text.isascii() and text and "-0.0" not in text:
        return text
    return _compact(_normal(value))


def _compact(value: Any) -> str:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no canonical form")
        return 0.0 if value == 0.0 else value
    if isinstance(value, dict):
        return {_normal(str(key)): _normal(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(below) for below in value]
    if value is None or isinstance(value, bool | int):
        return value
    raise ValueError(f"{type(value).__name__} has no canonical form")
