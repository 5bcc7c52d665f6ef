"""``gate``: the recipe's bars against what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.kinds.kind import Kind

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, behind the report, so that a failed gate leaves nothing unwritten."""
    read = [making.stage("score"), making.stage("report")]
    making.add(
        "gate",
        {"gates": making.values["gates"]},
        {"gates": "gates"},
        {},
        {stage.role: stage for stage in read},
        out=f"outputs/gates/{making.composed.name}",
    )


ENTRIES = (
    Kind(
        name="gate",
        verb="check",
        place=80,
        program="slmcompile.stages.gate:run",
        plan=plan,
        joins="",
        constant=True,
        computes=False,
        instant=True,
    ),
)
