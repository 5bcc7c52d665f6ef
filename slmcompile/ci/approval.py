"""The comment by which somebody approves of a training: ``/train`` and a digest, nothing else."""

from __future__ import annotations

import re

_COMMAND = re.compile(r"\s*/train[ \t]+([0-9a-f]{64})\s*", re.ASCII)
_LONGEST = 200


def approved(comment: str) -> str | None:
    """The digest that a comment approves of; None of every other comment.

    The whole comment has to be the command, so that whoever quotes, explains or shows it approves
    of nothing. All digits have to be there: short ones could be made to collide.
    """
    found = _COMMAND.fullmatch(comment) if len(comment) <= _LONGEST else None
    return found[1] if found else None


def command(digest: str) -> str:
    """What to write to approve of a digest."""
    return f"/train {digest}"
