"""``plan --all``: every recipe of a project planned in one process, a line each.

Keeps numbers and sentences of each plan and not the plan itself, so that memory does not grow with
the number of recipes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slmcompile.checks.judge import refusal
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.plan_text import summary
from slmcompile.explain.planned import plan_compiled
from slmcompile.recipe.project import Project

# What a reader of the exit code must hear of first.
_WORST = (
    Exit.REFUSED,
    Exit.CORRUPT,
    Exit.BAD_RECIPE,
    Exit.BAD_DATA,
    Exit.MISSING,
    Exit.STAGE_FAILED,
)


@dataclass(frozen=True)
class Surveyed:
    """What planning one recipe came to.

    Attributes:
        recipe: its name.
        plan_id: its plan, empty where there is none.
        summary: the plan's summary line, empty where there is none.
        actions: number of stages by what will happen to them.
        error: why it cannot run, if it cannot: composition, or the first check that refutes it.
    """

    recipe: str
    plan_id: str
    summary: str
    actions: dict[str, int]
    error: SlmcompileError | None


def survey(project: Project, policy_from: str | None = None) -> Iterator[Surveyed]:
    """Plans every recipe, by name; a recipe that cannot be planned stops no other."""
    held = replace(project, policy_from=policy_from)
    for name in project.names():
        try:
            planned = plan_compiled(held, compile_recipe(held, name, ()), policy_from)
        except SlmcompileError as error:
            yield Surveyed(name, "", "", {}, error.with_traceback(None))
            continue
        actions: dict[str, int] = dict(Counter(change.action for change in planned.changes))
        yield Surveyed(
            name,
            planned.plan.plan_id,
            summary(planned.changes),
            actions,
            refusal(planned.findings),
        )


def exit_code(surveyed: Sequence[Surveyed], *, detailed: bool) -> Exit:
    """The worst of all; with ``detailed``, 2 where something is to be done and nothing is wrong."""
    codes = {each.error.code for each in surveyed if each.error}
    for code in _WORST:
        if code in codes:
            return code
    if codes:
        return max(codes)
    pending = any(set(each.actions) - {"unchanged"} for each in surveyed)
    return Exit.CHANGES if detailed and pending else Exit.DONE


def survey_text(surveyed: Sequence[Surveyed]) -> str:
    """One line a recipe, two for a mend, and a summary line."""
    width = max((len(each.recipe) for each in surveyed), default=0)
    lines: list[str] = []
    for each in surveyed:
        name = each.recipe.ljust(width)
        if each.error:
            lines += [f"  ✗ {name}  {each.error.what}", f"      mend: {each.error.mend}"]
        else:
            sign = "~" if set(each.actions) - {"unchanged"} else "="
            lines.append(f"  {sign} {name}  {each.summary.removeprefix('Plan: ')}")
    wrong = sum(each.error is not None for each in surveyed)
    same = sum(each.error is None and not set(each.actions) - {"unchanged"} for each in surveyed)
    lines.append(
        f"Recipes: {len(surveyed) - wrong - same} with something to do, {same} unchanged,"
        f" {wrong} refuted."
    )
    return "\n".join(lines)


def survey_json(surveyed: Sequence[Surveyed]) -> dict[str, Any]:
    """For programs; ``format_version`` 2.0."""
    return {
        "format_version": "2.0",
        "recipes": [
            {
                "recipe": each.recipe,
                "plan_id": each.plan_id or None,
                "actions": each.actions,
                "error": each.error.to_json() if each.error else None,
            }
            for each in surveyed
        ],
    }
