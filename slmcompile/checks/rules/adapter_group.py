"""Check 25: the adapters of a recipe stand over one base model and one tokenizer."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS


@check(
    25,
    "one-base",
    "adapters of different bases or tokenizers are joined, and one of them answers nonsense",
)
def one_base(context: CheckContext) -> Verdict:
    """All stages read the same base, which holds the tokenizer; a recipe trains one adapter."""
    bases = {
        address
        for stage in context.compiled.stages()
        for role, address in stage.input_stages.items()
        if role == "base"
    }
    if len(bases) != 1:
        return refuted(
            f"stages read {len(bases)} base models: {', '.join(sorted(bases))}",
            "report this; it is a fault of slmcompile and not of the recipe",
            code=Exit.BUG,
        )
    method = METHODS[context.recipe.train.method]
    trained = "no adapter" if method.writes == "model" else "one adapter"
    return proved(f"{trained}, one base with its tokenizer ({bases.pop()})")
