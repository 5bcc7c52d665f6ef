"""The rule over ``data.steps``: each does something."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.checks.rules.undecided import needs_rows
from slmcompile.data.steps import Done
from slmcompile.facts.context import CheckContext


@check(
    37,
    "steps-met",
    "a step names a value that no row has, and keeps or leaves out other rows than was meant",
    needs=("D",),
    warning=True,
)
def steps_met(context: CheckContext) -> Verdict:
    """What a step is to look for occurs in some row; how many rows each leaves is the evidence."""
    keys = [
        part.key(f"data.steps.{number}")
        for part in context.recipe.data.parts
        for number in range(len(part.steps))
    ]
    if not keys:
        return proved("there are no steps")
    if context.data is None:
        return needs_rows(context)
    done = [Done(**step) for step in context.data.report["steps"]]
    for key, step in zip(keys, done, strict=False):
        if idle := step.idle():
            return refuted(
                f"{step.line()}: no row has {', '.join(idle)}",
                "correct the values, or take those out",
                context.at(key),
            )
    return proved("; ".join(step.line() for step in done))
