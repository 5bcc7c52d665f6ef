"""``check``: the rules that had to wait for the base model and the rows, before training.

It also reads the policy, which is therefore a file of its own, and the machine, which is not: of
that no output can tell, and ``plan`` and ``run`` judge by it anew each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import without_cosmetic

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage, which reads the whole recipe and the working tree's policy."""
    # Whoever only runs a stage does without it.
    from slmcompile.recipe.policy import own_file

    making.add(
        "check",
        {"recipe": without_cosmetic(making.recipe, making.values)},
        {"recipe": ""},
        {},
        {"base": making.stage("base"), "data": making.stage("data")},
        files=own_file(making.project),
        out=f"outputs/checks/{making.of_recipe}",
    )


ENTRIES = (
    Kind(
        name="check",
        verb="judge",
        place=30,
        program="slmcompile.stages.check:run",
        plan=plan,
        of_members=True,
        constant=True,
        computes=False,
        instant=True,
        whole_recipe=True,
    ),
)
