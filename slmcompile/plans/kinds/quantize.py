"""``quantize``: a target's base without adapters, which stand beside it and are trained over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slmcompile.plans.beside import bases_of, over_of
from slmcompile.plans.budgets import auto_targets, candidate_name, keys_of
from slmcompile.plans.installed import versions
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.sections import typed
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import OF_THE_CHOICE

if TYPE_CHECKING:
    from slmcompile.plans.definition import Stage
    from slmcompile.plans.making import Making

OVER = "over"
"""What the base that is trained over is called among the inputs of whoever reads it."""

BASE_ALONE = "quantized"
"""What a target's own base is called among the inputs of the export that stands beside it."""


def plan(making: Making) -> None:
    """One stage a target whose base stands alone; recipes with equal ones share it.

    What is trained over is what every target holds: the others are made of the same weights. A
    candidate that has a training of its own is of its own base.
    """
    recipe, over = making.composed.whole, over_of(making.composed)
    for name in bases_of(making.composed):
        target = recipe.target[name]
        provider = PROVIDERS[target.execution_provider]
        making.add_shared(
            "quantize",
            {"target": target_keys(making, name)},
            {"target": f"target.{name}"},
            versions("torch", "transformers", *provider.packages),
            {
                "base": making.stage("base"),
                **({OVER: making.stage("quantize", over)} if over and name != over else {}),
            },
            artifact=name,
            epochs=PROVIDERS.raised(target.execution_provider),
        )
    for name, target in auto_targets(recipe).items():
        provider = PROVIDERS[target.execution_provider]
        for label, candidate in target.trained_for.items():
            making.add_shared(
                "quantize",
                {"target": keys_of(candidate)},
                {"target": f"target.{name}.candidates.{target.train_over}"},
                versions("torch", "transformers", *provider.packages),
                {"base": making.stage("base")},
                artifact=candidate_name(name, label),
                epochs=PROVIDERS.raised(target.execution_provider),
            )


def trained_over(making: Making) -> dict[str, Stage]:
    """The stage whose base is trained over, as an input; none where it is the fetched one."""
    over = over_of(making.composed)
    return {OVER: making.stage("quantize", over)} if over else {}


def target_keys(making: Making, target: str) -> dict[str, Any]:
    """What a target's stages read of its section: not how adapters come to it, or it is chosen.

    These say which stages there are.
    """
    recipe = making.composed.whole
    values = typed(recipe.target[target], making.values["target"][target])
    return {k: v for k, v in values.items() if k not in OF_THE_CHOICE}


ENTRIES = (
    Kind(
        name="quantize",
        verb="quantize",
        place=25,
        program="slmcompile.stages.quantize:run",
        plan=plan,
        behind=frozenset({"base"}),
        shared=True,
        outdated="over an earlier quantised base",
    ),
)
