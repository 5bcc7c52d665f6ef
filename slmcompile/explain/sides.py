"""The two sides of a comparison, from what a person names: a recipe, one at a revision, a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from slmcompile.console.errors import UsageError
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.at_revision import plan_at
from slmcompile.explain.diff import Difference, Metrics, Side, compare, side_of
from slmcompile.explain.saved import load
from slmcompile.files.revision import resolve
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.registry.scalars import ID_PATTERN
from slmcompile.state.measured import Tree, WorkingTree, measured_metrics
from slmcompile.state.state import Cache


def is_plan_file(project: Project, text: str) -> bool:
    """Whether ``text`` names a plan file rather than a recipe; a recipe's name wins."""
    if re.fullmatch(ID_PATTERN, text):
        return not (project.recipes / f"{text}.yaml").is_file() and Path(text).is_file()
    return True


def side(project: Project, text: str) -> Side:
    """``recipe``, ``recipe@revision`` or the path of a plan file.

    Raises:
        UsageError: none of these (exit 64).
    """
    name, at, revision = text.partition("@")
    if at and re.fullmatch(ID_PATTERN, name):
        found = at_revision(project, name, revision)
        if found.plan is None:
            raise UsageError(
                f"{text}: {revision} has no recipe {name!r}", "name a revision that has it"
            )
        return found
    if not is_plan_file(project, text):
        return _working(project, text, compile_recipe(project, text, ()))
    saved = load(Path(text))
    metrics, notes = _metrics(project, saved.plan, WorkingTree(project))
    found = saved.side()
    return Side(found.name, found.plan, found.stages, metrics, notes)


def at_revision(project: Project, name: str, revision: str) -> Side:
    """A recipe as it was at a git revision; its plan is None if it was not there yet."""
    past = plan_at(project, resolve(project.root, revision), name)
    shown = f"{name}@{past.revision.shown}"
    if past.plan is None:
        return side_of(shown, None, notes=(f"there was no recipe {name} yet",))
    metrics, notes = _metrics(project, past.plan, past.revision)
    borrowed = [f"does not hold {path}; today's bytes stand in for it" for path in past.borrowed]
    return side_of(shown, past.plan, metrics, (*borrowed, *notes))


def against(project: Project, plan: Plan, revision: str) -> Difference:
    """What differs between a recipe at a revision and its plan now."""
    old = at_revision(project, plan.recipe, revision)
    return compare(old, _working(project, plan.recipe, plan))


def diff(project: Project, texts: Sequence[str]) -> Difference:
    """What differs between the two things that ``texts`` name."""
    old, new = (side(project, text) for text in texts)
    return compare(old, new)


def _working(project: Project, name: str, plan: Plan) -> Side:
    metrics, notes = _metrics(project, plan, WorkingTree(project))
    shown = " ".join([name, *plan.overrides])
    return side_of(shown, plan, metrics, notes)


def _metrics(project: Project, plan: Plan, tree: Tree) -> tuple[Metrics, tuple[str, ...]]:
    found, others = measured_metrics(plan, tree, Cache(project))
    if not others:
        return found, ()
    return found, (f"its metrics of {', '.join(others)} were measured for another plan",)
