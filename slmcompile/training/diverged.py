"""Which learner of a group has diverged, remembered beside its checkpoints.

A group that is interrupted after one has diverged goes on without it: the others would otherwise
have to go back to the last moment at which it still had a checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from slmcompile.files.artifact import saying_what_is_missing, write_json
from slmcompile.training.not_finite import NotFiniteError

_FILE = "diverged.json"


@dataclass(frozen=True)
class Diverged:
    """One that is stopped.

    Attributes:
        cut: step of the run from which on no checkpoint of the group is of it.
        error: what stopped it.
    """

    cut: int
    error: NotFiniteError


def note(folder: Path, group: str, cut: int, error: NotFiniteError) -> None:
    """Keeps it.

    Raises:
        MissingError: the disk is full or the folder cannot be written (exit 69).
    """
    told = {"group": group, "cut": cut, "found": error.found, "rate": error.rate}
    with saying_what_is_missing(folder / _FILE):
        write_json(folder / _FILE, told)


def noted(folder: Path, group: str, member: str) -> Diverged | None:
    """What was noted of a learner in this very group; None of another's, or where it is damaged."""
    try:
        told = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if told["group"] != group:
            return None
        error = NotFiniteError(member, str(told["found"]), float(told["rate"]))
        return Diverged(int(told["cut"]), error)
    except (OSError, ValueError, TypeError, KeyError):
        return None
