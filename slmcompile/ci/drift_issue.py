"""The one issue that says what is no longer as committed; closed where nothing is to be said."""

from __future__ import annotations

from collections.abc import Sequence

from slmcompile.ci.host import Host, UnsureError
from slmcompile.console.printable import printable
from slmcompile.drift.finding import Finding
from slmcompile.report.inert import code

MARKER = "<!-- slmcompile drift -->"
"""First line of the issue, by which it is found again; its author has to be looked at as well."""

TITLE = "slmcompile: not as committed any more"
_LARGEST = 60_000
_LONGEST = 300
_TRIES = 3


def settle(host: Host, findings: Sequence[Finding]) -> str:
    """Opens, edits or closes the issue, and returns which in one word.

    Of several of ours the oldest is edited; all are closed where nothing is found.

    Raises:
        SlmcompileError: as the host.
    """
    body = issue(findings)
    for left in reversed(range(_TRIES)):
        ours = host.our_issues(MARKER)
        if not findings:
            for number in ours:
                host.edit_issue(number, body, close=True)
            return "closed" if ours else "none"
        if ours:
            host.edit_issue(ours[0], body)
            return "edited"
        try:
            host.create_issue(TITLE, body)
        except UnsureError:
            if not left:
                raise
        else:
            return "opened"
    return "none"


def issue(findings: Sequence[Finding]) -> str:
    """What the issue says; every value in it is inert."""
    if not findings:
        return f"{MARKER}\n\nNothing any more: all is as committed.\n"
    lines: list[str] = []
    room = _LARGEST
    for each in findings:
        line = f"- {each.kind}: {_value(each.subject)}: {_value(each.what)}. {_value(each.mend)}"
        room -= len(line) + 1
        if room < 0:
            lines.append(f"\n{len(findings) - len(lines)} more do not fit in here.")
            break
        lines.append(line)
    found = "\n".join(lines)
    return f"{MARKER}\n\n`slmcompile drift` says what is no longer as committed:\n\n{found}\n"


def _value(text: str) -> str:
    return code(printable(text), _LONGEST)
