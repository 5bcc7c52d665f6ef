"""``check``: the rules that had to wait for the base model and the rows, before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import without_cosmetic

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, which reads the whole recipe."""
    making.add(
        "check",
        {"recipe": without_cosmetic(making.recipe)},
        {"recipe": ""},
        {},
        {"base": making.stage("base"), "data": making.stage("data")},
        out=f"outputs/checks/{making.composed.name}",
    )


ENTRIES = (
    Kind(
        name="check",
        verb="judge",
        place=30,
        program="slmcompile.stages.check:run",
        plan=plan,
        constant=True,
        computes=False,
        instant=True,
        whole_recipe=True,
    ),
)
