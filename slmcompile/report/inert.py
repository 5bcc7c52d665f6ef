"""Untrusted text in GitHub Markdown, where a character can link, mention, close or render."""

from __future__ import annotations

import re

from slmcompile.report.text import shorten, visible

_LONGEST = 300
# An empty comment splits the text, which is what stops GitHub's own links: @name (it notifies
# people), #12 and GH-12, and the addresses that it recognises without any markup; and its :names:
# of emoji, some of which are pictures.
_BREAK = "<!-- -->"
_LINKING = re.compile(r"[@#]|GH-(?=\d)|www(?=\.)|:(?=//|[a-z0-9+-][\w+-]*:)", re.IGNORECASE)
_ACTIVE = re.compile(r"[&<>\\`*_\[\]|~$]")
_BLOCK_START = re.compile(r"^(?:[-+=#]|\d+[.)](?=\s|$))")


def prose(text: str) -> str:
    """Text for a sentence, a heading or a table cell: reads the same and does nothing."""
    return _inert(" ".join(visible(text).split()))


def code(text: str, limit: int = _LONGEST) -> str:
    """Text in a fixed-width font on one line, safe in a table cell too.

    An HTML element and not a backtick fence: the text could close a fence, and a table splits at
    ``|`` even inside one.
    """
    shown = shorten(visible(text).replace("\t", " "), limit).replace("\n", "⏎")
    return f"<code>{_inert(shown)}</code>"


def block(text: str, language: str = "") -> str:
    """A fenced code block whose fence is longer than any run of backticks in the text."""
    shown = visible(text).rstrip("\n")
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}\n"


def _inert(line: str) -> str:
    # Character references never start or end anything in Markdown, not even a table cell.
    escaped = _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", line)
    # Only then the breaks, and not inside the references just made ("&#42;").
    pieces = re.split(r"(&#\d+;)", escaped)
    broken = "".join(
        piece if at % 2 else _LINKING.sub(lambda found: found[0] + _BREAK, piece)
        for at, piece in enumerate(pieces)
    )
    return _BLOCK_START.sub(lambda found: f"{_BREAK}{found[0]}", broken)
