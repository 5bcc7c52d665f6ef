"""Check 31: the learning rate and the adapter's scale are where runs are known to go well."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.methods.lora import Lora, LoraTrain

_SCALES = (0.25, 8.0)
"""Usual scale of the adapter's update, alpha/r (rsLoRA: alpha/√r): a quarter in QLoRA (16 over 64),
eight in LoRA's GPT-2 (32 over 4), and 1 or 2 nearly everywhere else."""


_MOST_OFTEN = 64.0
"""Ratio of B's learning rate to A's: 16 is what LoRA+ recommends (arXiv:2402.12354, section 4)."""


@check(
    31,
    "usual-range",
    "a learning rate or a scale off by powers of ten: nothing is learnt, or training diverges",
    warning=True,
    of_plan=True,
)
def usual_range(context: CheckContext) -> Verdict:
    """Only a warning: unusual is not wrong."""
    train = context.recipe.train
    low, high = METHODS[train.method].usual_rate
    if not low <= train.learning_rate <= high:
        return refuted(
            f"a learning rate of {train.learning_rate:g} is unusual for {train.method}:"
            f" {low:g} to {high:g}",
            f"try {low if train.learning_rate < low else high:g} first",
            context.at("train.learning_rate"),
        )
    found = f"learning rate {train.learning_rate:g} within {low:g} to {high:g}"
    if not isinstance(train, LoraTrain):
        return proved(found)
    return _of_adapter(context, train.lora, found)


def _of_adapter(context: CheckContext, lora: Lora, found: str) -> Verdict:
    """The scales of all its layers, and LoRA+'s ratio."""
    formula = "alpha/√r" if lora.use_rslora else "alpha/r"
    low, high = _SCALES
    for name in ("", *sorted(lora.rank_pattern), *sorted(lora.alpha_pattern)):
        scale, of = lora.scale(name), f" of {name}" if name else ""
        if not low <= scale <= high:
            key = "alpha_pattern" if name in lora.alpha_pattern else "lora_alpha"
            return refuted(
                f"{formula} = {scale:.3g}{of} is an unusual scale: {low:g} to {high:g}",
                f"set train.lora.{key} to once or twice the rank",
                context.at(f"train.lora.{key}"),
            )
    ratio, most = lora.loraplus_lr_ratio, _MOST_OFTEN
    if ratio is not None and ratio > most:
        return refuted(
            f"B at {ratio:g} times the rate of A is unusual: up to {most:g}",
            "try 16 first",
            context.at("train.lora.loraplus_lr_ratio"),
        )
    told = f"{found}; {formula} = {lora.scale(''):.3g} within {low:g} to {high:g}"
    return proved(told if ratio is None else f"{told}; B at {ratio:g} times the rate")
