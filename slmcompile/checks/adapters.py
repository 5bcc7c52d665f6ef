"""The rules over adapters: a pattern that matches nothing, a rank that is no low rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet
from difflib import get_close_matches

from slmcompile.checks.architecture import Architecture, architecture_of
from slmcompile.checks.context import CheckContext
from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.checks.trainable import Trainable, patterns, trainable
from slmcompile.recipe.schema import Lora
from slmcompile.training.target_modules import leaf, matched

LOW_COVERAGE = 0.5
"""Share of the linear layers below which the evidence says so."""

_SHOWN = 8


@check(
    8,
    "target-modules-match",
    "an adapter sits on no layer, or on a few of them, and nothing says so",
    needs=("H",),
)
def target_modules_match(context: CheckContext) -> Verdict:
    """Every pattern of ``target_modules`` and ``modules_to_save`` names a module of the model."""
    lora = context.recipe.train.lora
    if lora is None:
        return proved("method full: every weight is trained, no pattern is needed")
    model = architecture_of(context)
    if model is None:
        return needs_probe(context.base_stage, "the model's layers are known by then")
    unmatched = _unmatched(lora, model)
    if unmatched is None:
        return proved(_coverage(trainable(context.recipe.train, model), model))
    key, pattern, known = unmatched
    if model.has_experts:
        return needs_probe(
            f"{context.name}/train",
            f"no stored tensor is called {pattern!r}, but the modelling code joins experts under"
            " names of its own",
        )
    return refuted(
        f"{pattern!r} matches no module of the base model",
        f"{_nearest(pattern, known)}; layers: {', '.join(_leaves(known))}",
        context.at(f"train.lora.{key}"),
    )


def _unmatched(lora: Lora, model: Architecture) -> tuple[str, str, AbstractSet[str]] | None:
    """Key, pattern and possible names of the first pattern that matches nothing."""
    layers = {*model.linears, *model.others}
    modules = model.modules | {"lm_head"}
    for key, wanted, known in (
        ("target_modules", patterns(lora, model), layers),
        ("modules_to_save", sorted(lora.modules_to_save), modules),
    ):
        for pattern in wanted:
            if not matched(known | {"lm_head"}, [pattern]):
                return key, pattern, known
    return None


def _nearest(pattern: str, known: AbstractSet[str]) -> str:
    close = get_close_matches(pattern, [*_leaves(known), *sorted(known)], n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "write all-linear to take every linear layer"


def _leaves(known: AbstractSet[str]) -> list[str]:
    """Last parts of names, numbers of layers left out."""
    return sorted({leaf(name) for name in known if not leaf(name).isdigit()})[:_SHOWN]


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
    found = trainable(train, model)
    layers = {**model.linears, **model.others}
    if train.lora is None:
        return proved(f"{found.parameters:,} parameters trained, all of them")
    if found.parameters == 0:
        if model.has_experts or "lm_head" in train.lora.target_modules:
            return needs_probe(f"{context.name}/train", "no stored layer matches target_modules")
        return refuted(
            "no parameter would be trained: target_modules matches no layer",
            "write target_modules: all-linear",
            context.at("train.lora.target_modules"),
        )
    narrow = [(min(layers[name]), name) for name in found.adapted]
    if narrow and min(narrow)[0] < train.lora.r:
        width, name = min(narrow)
        out, into = layers[name]
        return refuted(
            f"rank {train.lora.r} exceeds the smallest dimension of {name} [{out}, {into}]",
            f"set train.lora.r to {width} or less, or train all weights: train=full",
            context.at("train.lora.r"),
        )
    share = found.parameters / (model.parameters + found.parameters)
    least = f", rank {train.lora.r} of at most {min(narrow)[0]}" if narrow else ""
    return proved(f"{found.parameters:,} parameters trained ({share:.2%}){least}")
