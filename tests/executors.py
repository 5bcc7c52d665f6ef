"""Executors that tests run plans with instead of DVC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project


class Idle:
    """Runs nothing; ``did`` is told what it was asked for.

    It is made as ``DvcExecutor`` is, whose place it takes behind the command line.
    """

    def __init__(
        self,
        *_: Any,
        did: Callable[[Plan, Sequence[Stage] | None], None] = lambda plan, only: None,
    ) -> None:
        self._did = did

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def check(self) -> None:
        pass

    def reproduce(self, plan: Plan, only: Sequence[Stage] | None = None) -> None:
        self._did(plan, only)


class InProcess(Idle):
    """Runs every stage here, one behind the other, and remembers nothing."""

    def __init__(self, project: Project) -> None:
        super().__init__(did=self._execute)
        self._project = project

    def _execute(self, plan: Plan, only: Sequence[Stage] | None) -> None:
        from slmcompile.stages.runner import execute

        for stage in plan.stages() if only is None else only:
            execute(self._project, stage.spec_path)
