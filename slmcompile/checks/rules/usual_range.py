"""Check 31: the learning rate and the adapter's scale are where runs are known to go well."""

from __future__ import annotations

from math import sqrt

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.methods.lora import Lora, LoraTrain

_SCALES = (0.25, 8.0)
"""Usual scale of the adapter's update, alpha/r (rsLoRA: alpha/√r): a quarter in QLoRA (16 over 64),
eight in LoRA's GPT-2 (32 over 4), and 1 or 2 nearly everywhere else."""


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
    scale, formula = _scale(train.lora)
    low, high = _SCALES
    if not low <= scale <= high:
        return refuted(
            f"{formula} = {scale:.3g} is an unusual scale: {low:g} to {high:g}",
            "set train.lora.lora_alpha to once or twice train.lora.r",
            context.at("train.lora.lora_alpha"),
        )
    return proved(f"{found}; {formula} = {scale:.3g} within {low:g} to {high:g}")


def _scale(lora: Lora) -> tuple[float, str]:
    """What the adapter's update is multiplied by, and how PEFT computes it."""
    if lora.use_rslora:
        return lora.lora_alpha / sqrt(lora.r), "alpha/√r"
    return lora.lora_alpha / lora.r, "alpha/r"
