"""What runs the stages of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from slmcompile.plans.definition import Plan, Stage


class Executor(Protocol):
    """Brings the outputs of a plan's stages up to date, each by ``slmcompile exec SPEC``.

    It is entered before the recipe is planned, so that what takes its time to start does so
    meanwhile, and left when all is done or nothing is to be.
    """

    def __enter__(self) -> object:
        """Starts what it needs."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Ends what is still going on."""

    def check(self) -> None:
        """Raises MissingError where the project lacks what it needs (exit 69)."""

    def reproduce(self, plan: Plan, only: Sequence[Stage] | None = None) -> None:
        """Runs every stage that is not up to date, behind its inputs.

        The generated files of the plan are written. With ``only`` no other stage is looked at; they
        run in the order given. May be called several times.

        Raises:
            SlmcompileError: the failed stage's own error and exit code.
            MissingError: no room or no right to write (exit 69).
        """
