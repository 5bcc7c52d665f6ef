"""Check 25: the adapters of a recipe stand over one base model and one tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS

_IN_COMMON = (
    *("method", "precision", "quantization", "num_threads", "seed", "gradient_checkpointing"),
    *("together", "isolated", "save_steps", "save_total_limit", "logging_steps"),
)
"""Keys of ``train`` by which the base model is opened and run for all who train over it at once."""


@check(
    25,
    "one-base",
    "adapters of different bases or tokenizers are joined, and one of them answers nonsense",
)
def one_base(context: CheckContext) -> Verdict:
    """All stages read the same base, which holds the tokenizer; adapters open it in one way."""
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
    if not context.trained_with:
        trained = "no adapter" if method.writes == "model" else "one adapter"
        return proved(f"{trained}, one base with its tokenizer ({bases.pop()})")
    if reason := method.alone(context.recipe.train):
        return refuted(
            f"{reason}, which adapters that are trained together have in common",
            "set train.together=false, so that each has a training of its own",
            context.at("train"),
        )
    for key, here, there, other in _differing(context):
        return refuted(
            f"train.{key} is {here}, that of {other} is {there}; adapters that are trained together"
            " have it in common",
            f"give it once, as train.{key} of the recipe; or set train.together=false",
            context.at(f"train.{key}"),
        )
    return proved(
        f"{len(context.trained_with) + 1} adapters, one base with its tokenizer ({bases.pop()}),"
        " opened in one way"
    )


def _differing(context: CheckContext) -> Iterator[tuple[str, object, object, str]]:
    """Keys that another adapter has another value of: the key, both values, whose."""
    for key in _IN_COMMON:
        own = getattr(context.recipe.train, key, None)
        for other in context.trained_with:
            theirs = getattr(other.recipe.train, key, None)
            if own != theirs:
                yield key, own, theirs, other.member
