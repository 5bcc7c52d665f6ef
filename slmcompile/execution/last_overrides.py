"""Overrides that a run has left beside its recipe, where every later command finds them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from slmcompile.console.errors import SlmcompileError
from slmcompile.execution.sync import read_overrides
from slmcompile.recipe.project import Project


def last_overrides(project: Project, name: str) -> tuple[str, ...]:
    """As ``read_overrides``, for those who only tell of them: empty where they cannot be read."""
    try:
        return read_overrides(project, name)
    except (SlmcompileError, OSError):
        return ()


def without_last(last: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """A line that tells the overrides of the last run, where a plan has others; else none."""
    if not last or tuple(last) == tuple(overrides):
        return []
    these = f"this is with {' '.join(overrides)}" if overrides else "this is without"
    return [f"The last run was with {' '.join(last)}; {these}."]


def how_to_clear(recipe: str, overrides: Sequence[str]) -> str:
    """A mend line for overrides that a run has left."""
    kept = shlex.join([recipe, *overrides])
    return (
        f"run `slmcompile run {recipe}`, which is without,"
        f" or make them a recipe: `slmcompile run {kept} --save-as NAME`"
    )
