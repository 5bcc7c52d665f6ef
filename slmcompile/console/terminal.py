"""Text for whoever reads it: wrapped where that is a person at a terminal, else left as it is."""

from __future__ import annotations

import re
import sys
from typing import IO, Any

from slmcompile.console.errors import SlmcompileError
from slmcompile.console.printable import json_text
from slmcompile.console.streams import carries

_COLUMNS = re.compile(r".*\S {2,}(?=\S)")


def fitted(text: str, to: IO[str] | None = None) -> str:
    """``text`` for a stream (default: standard output), which is wrapped if it is a terminal.

    What is left of a line stands below its last column, or a little further in than its beginning
    where that column begins too far to the right.
    """
    if not (to or sys.stdout).isatty():
        return text
    import shutil

    width = shutil.get_terminal_size().columns
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    columns = _COLUMNS.match(line)
    hang = len(columns[0]) if columns else width
    if hang > width // 2:
        hang = len(line) - len(line.lstrip(" ")) + 4
    import textwrap

    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * hang,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_json(document: Any) -> None:
    """JSON on standard output, in ASCII where that has not all of its characters."""
    text = json_text(document)
    print(text if carries(text, sys.stdout) else json_text(document, ascii_only=True))


_MOST_TOLD = 20
"""Errors of one file, of which the last follow from a mistake that is named by then."""


def tell(error: SlmcompileError) -> int:
    """Says on standard error what is wrong and how to mend it; returns the exit code."""
    every = [error, *error.also]
    for each in every[:_MOST_TOLD]:
        print(f"error: {each.what}", file=sys.stderr)
        if each.mend:
            print(f"  mend: {each.mend}", file=sys.stderr)
    if len(every) > _MOST_TOLD:
        print("and more", file=sys.stderr)
    return int(error.code)
