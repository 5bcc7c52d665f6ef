"""Errors that a person meets, and the exit codes that a program meets.

Every error is two lines: what is wrong and where, and how to mend it. Nothing here knows who
raises or who prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TypeVar

from slmcompile.console.printable import printable, shortened

_LONGEST = 1000
"""Characters of either line of an error."""


class Exit(IntEnum):
    """Exit codes of every subcommand; the 64–78 range follows BSD ``sysexits.h``."""

    DONE = 0
    STAGE_FAILED = 1
    CHANGES = 2
    GATE_FAILED = 3
    STALE = 4
    LOCKED = 5
    USAGE = 64
    BAD_DATA = 65
    MISSING = 69
    BUG = 70
    CORRUPT = 74
    REFUSED = 77
    BAD_RECIPE = 78
    INTERRUPTED = 130
    TERMINATED = 143


class SlmcompileError(Exception):
    """An error that the user can act on.

    Attributes:
        what: one line, what is wrong and where (``recipes/x.yaml:12: train.learning_rat: …``).
        mend: one line, how to mend it; may be empty where ``what`` says all.
        code: the exit code the command line ends with.
        also: what else is wrong beside it, each with a cause of its own.
    """

    code: Exit = Exit.STAGE_FAILED

    def __init__(
        self,
        what: str,
        mend: str = "",
        *,
        code: Exit | None = None,
        also: Sequence[SlmcompileError] = (),
    ) -> None:
        # Both may quote a stranger's recipe: one line each with an end, and nothing that moves a
        # cursor.
        what, mend = (shortened(printable(text), _LONGEST) for text in (what, mend))
        super().__init__(what if not mend else f"{what}\n{mend}")
        self.what = what
        self.mend = mend
        self.also = tuple(also)
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """From one process to another, with its hint and code."""
        return _again, (type(self), self.what, self.mend, self.code, self.also)

    def to_json(self) -> dict[str, Any]:
        """For programs, where the mend is called ``hint``."""
        told = {"what": self.what, "hint": self.mend, "code": int(self.code)}
        return {**told, "also": [each.to_json() for each in self.also]} if self.also else told


def _again(
    kind: type[SlmcompileError], what: str, mend: str, code: Exit, also: Sequence[SlmcompileError]
) -> SlmcompileError:
    return kind(what, mend, code=code, also=also)


_Error = TypeVar("_Error", bound=SlmcompileError)


def all_of(errors: Sequence[_Error]) -> _Error:
    """Several errors as one: the first, and beside it the rest."""
    first, *rest = errors
    first.also = (*first.also, *rest)
    return first


class StageFailedError(SlmcompileError):
    """A stage ran and did not succeed: training diverged, parity was lost (exit 1)."""


class GateFailedError(SlmcompileError):
    """A quality gate of the recipe failed (exit 3)."""

    code = Exit.GATE_FAILED


class StaleError(SlmcompileError):
    """Plan or generated files do not match the recipe or the environment (exit 4)."""

    code = Exit.STALE


class LockedError(SlmcompileError):
    """Another run holds the recipe (exit 5)."""

    code = Exit.LOCKED


class UsageError(SlmcompileError):
    """The command line itself is wrong (exit 64)."""

    code = Exit.USAGE


class BadDataError(SlmcompileError):
    """The data set is wrong; the message names file, row and column (exit 65)."""

    code = Exit.BAD_DATA


class MissingError(SlmcompileError):
    """Something it needs is missing: disk, memory, package, device, network (exit 69)."""

    code = Exit.MISSING


class CorruptError(SlmcompileError):
    """An artifact, cache blob, checkpoint or lock is not what was written (exit 74)."""

    code = Exit.CORRUPT


class RefusedError(SlmcompileError):
    """Refused by policy (exit 77)."""

    code = Exit.REFUSED


class BadRecipeError(SlmcompileError):
    """The recipe is wrong; the message names file, line and key (exit 78)."""

    code = Exit.BAD_RECIPE
