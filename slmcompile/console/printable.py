r"""Text from people we do not know, made safe to print: one line, nothing that moves a cursor.

Control characters, ANSI escapes, direction overrides, zero-width and private characters and lone
surrogates come out as ``\uXXXX``, which is also how JSON writes them. What has the shape of a
well-known credential is left out: a data file may be any file of the project.
"""

from __future__ import annotations

import json
import re
from typing import Any

from slmcompile.console.redact import redact

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\uf8ff\U000e0000-\U0010ffff]"
)
_SHORT = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}


def printable(text: str) -> str:
    """``text`` with every character escaped that does not show itself, and no credential."""
    return _escaped(str(redact(text, ())))


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """``value`` as indented JSON without hidden characters; programs read the same.

    But for credentials in it.
    """
    text = json.dumps(redact(value, ()), indent=2, ensure_ascii=ascii_only)
    return _escaped(text, keep="\n")


def shows_itself(text: str) -> bool:
    """Whether ``text`` holds no character that hides or acts; spaces of any width do not."""
    return _HIDDEN.search(text) is None


def shortened(text: str, limit: int = 80) -> str:
    """``text`` cut to ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _escaped(text: str, keep: str = "") -> str:
    shown = _HIDDEN.sub(
        lambda found: found[0] if found[0] in keep else escaped_character(found[0]), text
    )
    if shown.isprintable():
        return shown
    # What no font has: characters that Unicode has not assigned yet, and spaces that look like one.
    return "".join(
        each if each.isprintable() or each in keep else escaped_character(each) for each in shown
    )


def escaped_character(character: str) -> str:
    """A character as JSON escapes it in a string."""
    if character in _SHORT:
        return _SHORT[character]
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
