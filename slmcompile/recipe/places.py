"""Errors of a recipe in the order in which a person reads its files."""

from __future__ import annotations

import re
from collections.abc import Iterable

from slmcompile.console.errors import BadRecipeError
from slmcompile.recipe.overrides import is_override

_LINE = re.compile(r"(.*?):(\d+): ")


def in_order(errors: Iterable[BadRecipeError]) -> list[BadRecipeError]:
    """By file and line; what has no line comes behind, and what overrides say last."""
    return sorted(errors, key=lambda error: place(error.what))


def place(what: str) -> tuple[bool, bool, str, int]:
    """What to sort a message by that begins with ``file:line: `` or names an override."""
    found = None if is_override(what) else _LINE.match(what)
    file, line = (found[1], int(found[2])) if found else ("", 0)
    return is_override(what), found is None, file, line
