"""Check 12: what is trained can be exported to every target."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.providers import PROVIDERS
from slmcompile.sources import described_by


@check(
    12,
    "exportable",
    "training ends in a model that the exporter refuses",
    needs=("C", "H"),
)
def exportable(context: CheckContext) -> Verdict:
    """Architecture, adapter, precision and execution provider, all of them before training."""
    pairs = ", ".join(
        f"{target.execution_provider} {target.precision}"
        for target in context.recipe.target.values()
    )
    if context.model is None:
        told = described_by(context.recipe.model.source)
        if told is None:
            return needs_probe(context.base_stage, "the model's architecture")
        config = told.config
    else:
        config = context.model.config
    family = str(config.get("model_type"))
    for name, target in context.recipe.target.items():
        provider = PROVIDERS[target.execution_provider]
        if family not in provider.architectures:
            return refuted(
                f"{provider.made_by} cannot export the architecture {family!r}",
                f"name a {provider.families} model, or leave out target.{name}",
                context.at("model.source"),
            )
    method = METHODS[context.recipe.train.method]
    form = "all weights" if method.writes == "model" else f"a {method.name} adapter, merged"
    used = [PROVIDERS[target.execution_provider] for target in context.recipe.target.values()]
    builders = ", ".join(dict.fromkeys(provider.made_by for provider in used))
    return proved(f"{used[0].architectures[family]}, {form}, as {pairs} by {builders}")
