"""A planned run as text for a person."""

from __future__ import annotations

from collections.abc import Sequence

from slmcompile.api import PlannedRun
from slmcompile.pipeline.changes import Change

_SIGNS = {"run": "~", "restore": "↺", "unchanged": "="}
_VERBS = {
    "base": "fetch",
    "data": "prepare",
    "train": "train",
    "export": "export",
    "evaluate": "evaluate",
    "report": "write",
    "gate": "check",
}
_SHOWN_REASONS = 3


def plan_text(planned: PlannedRun) -> str:
    """One line a stage and a summary line."""
    width = max(len(change.stage.address) for change in planned.changes)
    lines = [
        f"  {_SIGNS[change.action]} {change.stage.address.ljust(width)}  {_what(change)}".rstrip()
        for change in planned.changes
    ]
    return "\n".join([*lines, summary(planned.changes)])


def _what(change: Change) -> str:
    doing = {
        "run": f"will {_VERBS[change.stage.kind]}",
        "restore": "restore from cache",
        "unchanged": "unchanged",
    }[change.action]
    if change.action == "unchanged":
        return doing
    reasons = [reason.sentence() for reason in change.reasons[:_SHOWN_REASONS]]
    if len(change.reasons) > _SHOWN_REASONS:
        reasons.append(f"{len(change.reasons) - _SHOWN_REASONS} more")
    uncertain = change.action == "run" and {reason.cause for reason in change.reasons} == {"input"}
    note = " (may be cut off early)" if uncertain else ""
    return f"{doing.ljust(18)}  {', '.join(reasons)}{note}"


def summary(changes: Sequence[Change]) -> str:
    """One line: ``Plan: 1 to train, 2 to evaluate, 1 to restore, 6 unchanged``."""
    parts: list[str] = []
    for kind, verb in _VERBS.items():
        count = sum(change.action == "run" and change.stage.kind == kind for change in changes)
        if count:
            parts.append(f"{count} {kind} to {verb}" if verb != kind else f"{count} to {verb}")
    for action, word in (("restore", "to restore"), ("unchanged", "unchanged")):
        count = sum(change.action == action for change in changes)
        if count:
            parts.append(f"{count} {word}")
    return f"Plan: {', '.join(parts)}."
