"""JSON as RFC 8259 has it: Python's own reader also takes NaN and Infinity for values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn


def decoder(
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> json.JSONDecoder:
    """A decoder that raises ValueError for what is no JSON; the hook is ``json.loads``'s."""
    return json.JSONDecoder(object_pairs_hook=object_pairs_hook, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
