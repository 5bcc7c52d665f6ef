"""The rules over adapters: a pattern that matches nothing, a rank that is no low rank."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set as AbstractSet
from difflib import get_close_matches

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.estimate.trainable import trainable
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.methods.lora import Lora, LoraTrain, patterns
from slmcompile.shapes.architecture import Architecture, Trainable
from slmcompile.shapes.target_modules import leaf, matched

LOW_COVERAGE = 0.5
"""Share of the linear layers below which the evidence says so."""

_SHOWN = 8
_NO_NAME = re.compile(r"[^\w.]")


@check(
    8,
    "target-modules-match",
    "an adapter sits on no layer, or on a few of them, and nothing says so",
    needs=("H",),
)
def target_modules_match(context: CheckContext) -> Verdict:
    """Every pattern of ``target_modules`` and ``modules_to_save`` names a module of the model."""
    train = context.recipe.train
    if not isinstance(train, LoraTrain):
        return proved(f"method {train.method}: no pattern names what is trained")
    lora = train.lora
    model = architecture_of(context)
    if model is None:
        return needs_probe(context.base_stage, "the model's layers are known by then")
    unmatched = _unmatched(lora, model)
    if unmatched is None:
        found = trainable(context.recipe.train, model)
        missing = None if found.adapted else _without_adapter(context, lora, model)
        return missing or proved(_coverage(found, model))
    key, pattern, known = unmatched
    if model.has_experts:
        return needs_probe(
            f"{context.name}/train",
            f"no stored tensor is called {pattern!r}, but the modelling code joins experts under"
            " names of its own",
        )
    return refuted(
        f"{pattern!r} matches no module of the base model",
        _names_instead(key, pattern, known),
        context.at(f"train.lora.{key}"),
    )


def _unmatched(lora: Lora, model: Architecture) -> tuple[str, str, AbstractSet[str]] | None:
    """Key, pattern and possible names of the first pattern that matches nothing."""
    for key, wanted, known in (
        ("target_modules", patterns(lora, model), model.layers.keys()),
        ("modules_to_save", sorted(lora.modules_to_save), model.modules),
    ):
        for pattern in wanted:
            if not matched(known | {"lm_head"}, [pattern]):
                return key, pattern, known
    return None


def _without_adapter(context: CheckContext, lora: Lora, model: Architecture) -> Verdict:
    """The verdict on a recipe that leaves no layer to adapt, which PEFT refuses."""
    meant = matched(model.layers, patterns(lora, model))
    if not meant and (model.has_experts or "lm_head" in lora.target_modules):
        return needs_probe(f"{context.name}/train", "no stored layer matches target_modules")
    if not meant:
        return refuted(
            "no layer would get an adapter: target_modules matches none",
            "write target_modules: all-linear",
            context.at("train.lora.target_modules"),
        )
    return refuted(
        f"no layer would get an adapter: modules_to_save trains all {len(meant)} of them whole",
        "take them out of modules_to_save, or train all weights: train=full",
        context.at("train.lora.modules_to_save"),
    )


def _names_instead(key: str, pattern: str, known: AbstractSet[str]) -> str:
    """A mend: the nearest name, or those that there are (last parts, layers' numbers left out)."""
    leaves = sorted({leaf(name) for name in known if not leaf(name).isdigit()})
    close = get_close_matches(pattern, [*leaves, *sorted(known)], n=1, cutoff=0.5)
    if close and not _NO_NAME.search(pattern):
        return f"did you mean {close[0]!r}?"
    some = ", ".join(leaves[:_SHOWN]) + (", …" if len(leaves) > _SHOWN else "")
    every = "all-linear, or " if key == "target_modules" else ""
    return f"write {every}whole names: {some}"


def _coverage(found: Trainable, model: Architecture) -> str:
    have = Counter(leaf(name) for name in model.linears)
    got = Counter(leaf(name) for name in found.adapted if name in model.linears)
    kinds = ", ".join(f"{kind} {got[kind]}/{have[kind]}" for kind in have)
    share = got.total() / max(1, have.total())
    low = "; low coverage: all-linear would take every one" if share < LOW_COVERAGE else ""
    return f"{kinds}; {share:.0%} of {have.total()} linear layers{low}"


@check(
    26,
    "something-is-trained",
    "no weight is trained, or an adapter's rank exceeds what its layer can hold",
    needs=("H",),
)
def something_is_trained(context: CheckContext) -> Verdict:
    """Trainable parameters > 0, and the rank is no larger than a layer's smallest dimension."""
    train, model = context.recipe.train, architecture_of(context)
    if model is None:
        return needs_probe(context.base_stage, "the layers' shapes are known by then")
    fault = METHODS[train.method].fault(train, model)
    if fault is not None and fault.by_name and model.has_experts:
        return needs_probe(
            f"{context.name}/train",
            f"{fault.what} as it is stored, but the modelling code joins experts under names of"
            " its own",
        )
    if fault is not None:
        return refuted(fault.what, fault.hint, context.at(f"train.{fault.key}"))
    found = trainable(train, model)
    share = found.parameters / max(1, model.parameters + found.parameters - found.whole)
    if not isinstance(train, LoraTrain):
        if not found.parameters and model.parameters:
            return refuted(
                "no weight is trained", "train more of the model", context.at("train.method")
            )
        told = "all of them" if found.whole == model.parameters else f"{share:.2%}"
        return proved(f"{found.parameters:,} parameters trained, {told}")
    if not found.adapted:  # one cause is one refutation
        return needs_probe(f"{context.name}/train", "no layer is adapted, as check 8 found")
    width, name = min((min(model.layers[name]), name) for name in found.adapted)
    if width < train.lora.r:
        out, into = model.layers[name]
        return refuted(
            f"rank {train.lora.r} exceeds the smallest dimension of {name} [{out}, {into}]",
            f"set train.lora.r to {width} or less, or train all weights: train=full",
            context.at("train.lora.r"),
        )
    return proved(
        f"{found.parameters:,} parameters trained ({share:.2%}), rank {train.lora.r} of at most"
        f" {width}"
    )
