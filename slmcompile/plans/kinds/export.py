"""``export``: base and what was trained become a folder for one hardware target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import typed
from slmcompile.providers import PROVIDERS

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


def plan(making: Making) -> None:
    """One stage a target, by its name."""
    for name, target in sorted(making.recipe.target.items()):
        provider = PROVIDERS[target.execution_provider]
        making.add(
            "export",
            {"target": typed(target, making.values["target"][name])},
            {"target": f"target.{name}"},
            versions("torch", "transformers", "peft", *provider.packages),
            {kind: making.stage(kind) for kind in ("base", "data")},
            artifact=name,
            files_of=making.trained(),
            epochs=PROVIDERS.raised(target.execution_provider),
        )


ENTRIES = (
    Kind(
        name="export",
        verb="export",
        place=50,
        program="slmcompile.stages.export:run",
        plan=plan,
        of_members=True,
        outdated="of an earlier export",
    ),
)
