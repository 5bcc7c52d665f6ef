"""What a job tells the jobs behind it, and how it prints what a stranger wrote.

GitHub's runner obeys lines of a log that begin with ``::``, and older commands (``##[…]``) wherever
they stand in a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmcompile.console.errors import SlmcompileError, UsageError
from slmcompile.console.printable import json_text, printable, shortened

_NAME = re.compile(r"[a-z][a-z_]{0,39}")
_LONGEST = 500
_BEGINS = re.compile(r"^\s*::", re.MULTILINE)
_OLD = "##["


def write_outputs(environ: Mapping[str, str], **values: bool | int | str) -> None:
    """Writes a job's outputs, a line each, where the runner reads them; else prints them.

    Args:
        environ: the job's environment.
        values: digests, commits, numbers and the like; of a text one printable line is kept.

    Raises:
        UsageError: GITHUB_OUTPUT names no file (exit 64).
    """
    lines = [f"{_named(name)}={_value(value)}\n" for name, value in values.items()]
    path = environ.get("GITHUB_OUTPUT", "")
    if not path:
        print("".join(lines), end="")
        return
    try:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.writelines(lines)
    except OSError as error:
        raise UsageError(f"GITHUB_OUTPUT: {error.strerror}", "leave it to the runner") from error


def _named(name: str) -> str:
    assert _NAME.fullmatch(name), name  # noqa: S101 (we name them)
    return name


def _value(value: bool | int | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return disarmed(shortened(printable(str(value)), _LONGEST))


def disarmed(text: str) -> str:
    """A text no line of which is a command wherever it is printed; reads nearly the same."""
    return _BEGINS.sub(": :", text.replace(_OLD, "## ["))


def disarmed_json(document: Any) -> str:
    """JSON that is the same to programs, and no command to a runner that sees it pass."""
    return json_text(document, ascii_only=True).replace(_OLD, "#\\u0023[")


def disarmed_error(error: SlmcompileError) -> SlmcompileError:
    """The same error, to be told in a job."""
    also = tuple(disarmed_error(each) for each in error.also)
    return SlmcompileError(disarmed(error.what), disarmed(error.mend), code=error.code, also=also)
