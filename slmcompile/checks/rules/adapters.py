"""The rules over adapters: a pattern that matches nothing, a rank that is no low rank."""

from __future__ import annotations

import re
from collections import Counter
from difflib import get_close_matches

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.estimate.trainable import trainable
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.methods.lora import Lora, LoraTrain, patterns
from slmcompile.methods.unmatched import Unmatched, unmatched
from slmcompile.shapes.architecture import Architecture, Trainable
from slmcompile.shapes.target_modules import leaf, matched, matches, meant

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
    """Every name in ``train.lora`` means a module of the model that its key can mean."""
    train = context.recipe.train
    if not isinstance(train, LoraTrain):
        return proved(f"method {train.method}: no pattern names what is trained")
    lora = train.lora
    model = architecture_of(context)
    if model is None:
        return needs_probe(context.base_stage, "the model's layers are known by then")
    missing = unmatched(lora, patterns(lora, model), model.layers, model.modules)
    if missing is None:
        found = trainable(context.recipe.train, model)
        none = None if found.adapted else _without_adapter(context, lora, model)
        return none or proved(_coverage(found, model))
    if model.has_experts:
        return needs_probe(
            f"{context.name}/train",
            f"no stored tensor is called {missing.given!r}, but the modelling code joins experts"
            " under names of its own",
        )
    return refuted(
        f"{missing.given!r} {_NOTHING.get(missing.key, 'matches no module of the base model')}",
        _names_instead(missing),
        context.at(f"train.lora.{missing.key}"),
    )


_NOTHING = {
    "layers_to_transform": "is no layer that target_modules adapts",
    "exclude_modules": "matches no layer that target_modules adapts",
    "rank_pattern": "matches no layer that gets an adapter",
    "alpha_pattern": "matches no layer that gets an adapter",
}


def _without_adapter(context: CheckContext, lora: Lora, model: Architecture) -> Verdict:
    """The verdict on a recipe that leaves no layer to adapt, which PEFT refuses."""
    wanted = matched(model.layers, patterns(lora, model))
    if not wanted and (model.has_experts or "lm_head" in lora.target_modules):
        return needs_probe(f"{context.name}/train", "no stored layer matches target_modules")
    if not wanted:
        return refuted(
            "no layer would get an adapter: target_modules matches none",
            "write target_modules: all-linear",
            context.at("train.lora.target_modules"),
        )
    if not meant(wanted, patterns(lora, model), lora.exclude_modules, lora.layers_to_transform):
        return refuted(
            "no layer would get an adapter: exclude_modules leaves none of those that"
            " target_modules and layers_to_transform mean",
            "take one of them out of exclude_modules",
            context.at("train.lora.exclude_modules"),
        )
    return refuted(
        f"no layer would get an adapter: modules_to_save trains all {len(wanted)} of them whole",
        "take them out of modules_to_save, or train all weights: train=full",
        context.at("train.lora.modules_to_save"),
    )


def _names_instead(missing: Unmatched) -> str:
    """A mend: the nearest name, or those that there are (last parts, layers' numbers left out)."""
    key, pattern, known = missing.key, missing.given, missing.choices
    if key == "layers_to_transform":
        numbers = sorted(int(each) for each in known)
        return f"write numbers from {numbers[0]} to {numbers[-1]}" if numbers else "remove it"
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
    return _rank_fits(context, train.lora, found, model) or proved(
        f"{found.parameters:,} parameters trained ({share:.2%}), {_ranks(train.lora, found)} of at"
        f" most {min(min(model.layers[name]) for name in found.adapted)}"
    )


def _ranks(lora: Lora, found: Trainable) -> str:
    """``rank 16``, or ``ranks 4 to 32``."""
    ranks = sorted({lora.rank(name) for name in found.adapted})
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"


def _rank_fits(
    context: CheckContext, lora: Lora, found: Trainable, model: Architecture
) -> Verdict | None:
    """The refutation of a rank that is larger than its layer; the tightest of them."""
    room = {name: min(model.layers[name]) - lora.rank(name) for name in found.adapted}
    name = min(found.adapted, key=lambda each: (room[each], each))
    if room[name] >= 0:
        return None
    out, into = model.layers[name]
    patterned = [pattern for pattern in lora.rank_pattern if matches(name, pattern)]
    key = "rank_pattern" if patterned else "r"
    return refuted(
        f"rank {lora.rank(name)} exceeds the smallest dimension of {name} [{out}, {into}]",
        f"set train.lora.{key} to {min(out, into)} or less, or train all weights: train=full",
        context.at(f"train.lora.{key}"),
    )
