"""Check 38: an adapter that begins as a part of the base can be taken out of it."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.estimate.trainable import trainable
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.methods.lora import OF_THE_BASE, QUANTISED_ONLY, LoraTrain
from slmcompile.methods.qlora import QLoraTrain

_KEY = "train.lora.init_lora_weights"


@check(
    38,
    "adapter-beginning",
    "an adapter begins as what quantising lost where nothing is quantised, or is taken out of an"
    " embedding too",
    needs=("C", "H"),
)
def adapter_beginning(context: CheckContext) -> Verdict:
    """LoftQ has a base in 4 bits, and nothing is taken out of weights that two layers share."""
    train = context.recipe.train
    if not isinstance(train, LoraTrain):
        return proved(f"method {train.method}: no adapter")
    first = train.lora.init_lora_weights
    if first in QUANTISED_ONLY and not isinstance(train, QLoraTrain):
        return refuted(
            f"{first} makes up for a base in 4 bits, and the method {train.method} holds it whole",
            "choose train=qlora, or set train.lora.init_lora_weights to pissa or true",
            context.at(_KEY),
        )
    if first not in OF_THE_BASE:
        told = "as nothing" if first is True else f"{first}, as nothing"
        return proved(f"the adapter begins {told}; the base stays as it is")
    model = architecture_of(context)
    if model is None:
        return needs_probe(context.base_stage, "whether an adapted layer shares its weights")
    found = trainable(train, model).adapted
    shared = sorted(set(found) & model.tied_head.keys())
    if shared:
        return refuted(
            f"{first} takes its adapter out of {shared[0]}, whose weights are the input embedding"
            " too",
            f"leave {shared[0]} out of target_modules, or set {_KEY} to true",
            context.at(_KEY),
        )
    return proved(f"{first} on {len(found)} layers, none of which shares its weights")
