"""Check 12: what is trained can be exported to every target."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.files.safe_read import read_output_json
from slmcompile.methods import METHODS
from slmcompile.methods.method import Method
from slmcompile.plans.beside import stands_beside
from slmcompile.providers import PROVIDERS
from slmcompile.sources import described_by

_MAX_TOKENIZER = 64 << 20

_OTHERWISE = {
    "int4_block_size": ", or quantise without zero points",
    "execution_provider": ", or another model",
}
"""What else mends a fault of a key."""


@check(
    12,
    "exportable",
    "training ends in a model that the exporter refuses",
    needs=("C", "H"),
)
def exportable(context: CheckContext) -> Verdict:
    """Architecture, adapter, precision and execution provider, all of them before training."""
    method = METHODS[context.recipe.train.method]
    if refusal := (
        _cannot_stand(context, method) or _not_probed(context, method) or _fault(context)
    ):
        return refusal
    family = _family(context)
    if family is None:
        return needs_probe(context.base_stage, "the model's architecture")
    for refuses in (_not_built, _not_read_back, _no_place, _not_split):
        if refusal := refuses(context, family):
            return refusal
    targets = context.recipe.target.values()
    pairs = ", ".join(f"{target.execution_provider} {target.precision}" for target in targets)
    used = [PROVIDERS[target.execution_provider] for target in targets]
    builders = ", ".join(dict.fromkeys(provider.made_by for provider in used))
    form = _form(context, method)
    return proved(f"{used[0].architectures[family]}, {form}, as {pairs} by {builders}")


def _family(context: CheckContext) -> str | None:
    """The model's ``model_type``; None before anybody can know it."""
    if context.model is not None:
        return str(context.model.config.get("model_type"))
    told = described_by(context.recipe.model.source)
    return None if told is None else str(told.config.get("model_type"))


def _form(context: CheckContext, method: Method) -> str:
    """How what is trained ships, in words."""
    if method.writes == "model":
        return "all weights"
    beside = [name for name in _beside(context) if stands_beside(context.recipe, name)]
    if "inputs" in method.forms and beside:
        merged = len(beside) < len(context.recipe.target)
        others = f" of {', '.join(beside)}, merged for the others" if merged else ""
        return f"a {method.name} adapter, as fp32 inputs of the graph beside the base{others}"
    if "merged" in method.forms:
        return f"a {method.name} adapter, merged"
    return f"a {method.name} adapter, as fp32 nodes of the graph"


def _not_built(context: CheckContext, family: str) -> Verdict | None:
    """The refusal of a target whose builder does not know the architecture."""
    for name, target in context.recipe.target.items():
        provider = PROVIDERS[target.execution_provider]
        if family not in provider.architectures:
            return refuted(
                f"{provider.made_by} cannot export the architecture {family!r}",
                f"name a {provider.families} model, or leave out target.{name}",
                context.at("model.source"),
            )
    return None


def _fault(context: CheckContext) -> Verdict | None:
    """The refusal of a target that cannot be built of this model's shapes."""
    model = architecture_of(context)
    if model is None:
        return None
    for name, target in context.recipe.target.items():
        provider, named = PROVIDERS[target.execution_provider], {f"target.{name}": target}
        if target.is_auto:
            # One that only the provider names is left out where it cannot be built, unless it is
            # trained for.
            listed = target.candidates
            named = {
                f"target.{name}.candidates.{label}": each
                for label, each in target.among.items()
                if label in listed or label in target.trained_for
            }
        for where, each in named.items():
            if found := provider.fault(each, model):
                key, why = found
                return refuted(
                    why,
                    f"choose another {where}.{key}{_OTHERWISE.get(key, '')}",
                    context.at(f"{where}.{key}"),
                )
    return None


def _not_split(context: CheckContext, _family: str) -> Verdict | None:
    """The refusal of a target whose runtime would split texts otherwise than training did."""
    found = {
        name: PROVIDERS[each.execution_provider] for name, each in context.recipe.target.items()
    }
    judged = {name: each.tokenizer_fault for name, each in found.items() if each.tokenizer_fault}
    if context.model is None or not judged:
        return None
    told = read_output_json(context.model.folder, "tokenizer.json", _MAX_TOKENIZER)
    for name, fault in judged.items():
        try:
            why = fault(told) if isinstance(told, dict) else None
        except (AttributeError, KeyError, TypeError):
            why = None  # the data stage says what is wrong with it
        if why:
            return refuted(
                why,
                f"choose another target.{name}.execution_provider, or another model",
                context.at(f"target.{name}.execution_provider"),
            )
    return None


def _beside(context: CheckContext) -> dict[str, str]:
    """Targets with a base that stands by itself, and by which key it does."""
    recipe = context.recipe
    found = {}
    for name, target in recipe.target.items():
        if stands_beside(recipe, name):
            found[name] = "train.over" if recipe.train.over else f"target.{name}.adapters"
        elif target.trained_for:
            found[name] = f"target.{name}.train_over"
    return found


def _cannot_stand(context: CheckContext, method: Method) -> Verdict | None:
    """The refusal of an adapter that cannot stand in floating point beside a target's base."""
    targets = _beside(context)
    if not targets:
        return None
    key = next(iter(targets.values()))
    mend = f"choose another train method (train=lora), or take {key} out"
    if reason := method.only_merged(context.recipe.train):
        option = reason.partition(" ")[0]
        if option.startswith("train."):
            mend = f"take {option} out, or {key}"
        return refuted(f"no adapter stands beside a base: {reason}", mend, context.at(key))
    if context.member and "inputs" not in method.forms:
        return refuted(
            f"{method.title} goes into the graph as nodes, and several adapters of one folder are"
            " inputs, of which a program chooses one",
            mend,
            context.at(key),
        )
    over = next((each for each in targets.values() if not each.endswith(".adapters")), None)
    if over and method.memory.read_as(context.recipe.train) is None:
        return refuted(
            f"{method.title} holds the base in 4 bits of its own while it trains",
            f"choose train=lora, which learns over the weights that {over} names, or take"
            f" {over} out",
            context.at(over),
        )
    return None


def _not_probed(context: CheckContext, method: Method) -> Verdict | None:
    """The refusal of an adapter that is in no weights that could be measured with it."""
    for name, target in context.recipe.target.items():
        probed = PROVIDERS[target.execution_provider].probed
        if not any(probed(each) for each in target.built):
            continue
        if any(probed(each) for each in target.trained_for.values()):
            return refuted(
                f"how wide the weights of {target.train_over} may be is measured with the adapter"
                " merged into them, and what is trained over them stands beside them",
                f"name another candidate in target.{name}.train_over",
                context.at(f"target.{name}.train_over"),
            )
        mend = f"choose another target.{name}.precision"
        at = context.at(f"target.{name}.precision")
        if stands_beside(context.recipe, name):
            key = "train.over" if context.recipe.train.over else f"target.{name}.adapters"
            return refuted(
                "how wide weights may be is measured with the adapter merged into them, and it"
                " stands beside them",
                f"{mend}, or take {key} out",
                at,
            )
        if method.writes == "adapter" and "merged" not in method.forms:
            return refuted(
                f"{method.title} merges into no weights, of which target.{name} would measure how"
                " wide they may be",
                f"{mend}, or an adapter that merges: train=lora",
                at,
            )
    return None


def _not_read_back(context: CheckContext, family: str) -> Verdict | None:
    """The refusal of a base that nothing can be put beside: where its modules are is not known."""
    for name, key in _beside(context).items():
        provider = PROVIDERS[context.recipe.target[name].execution_provider]
        if family not in provider.read_back:
            known = ", ".join(sorted(provider.read_back)) or "none"
            return refuted(
                f"no adapter stands beside a base of {family!r}: where its modules are in the graph"
                f" that {provider.made_by} makes of it is not known (known: {known})",
                f"name a model of a known family, or take {key} out",
                context.at(key),
            )
    return None


def _no_place(context: CheckContext, family: str) -> Verdict | None:
    """The refusal of a target into whose graph an adapter that does not merge cannot be put."""
    method = METHODS[context.recipe.train.method]
    if method.writes == "model" or "merged" in method.forms:
        return None
    for name, target in context.recipe.target.items():
        provider = PROVIDERS[target.execution_provider]
        if family not in provider.inserts_into:
            known = ", ".join(sorted(provider.inserts_into)) or "none"
            return refuted(
                f"a {method.name} adapter does not merge, and where it goes in the graph that"
                f" {provider.made_by} makes of {family!r} is not known (known: {known})",
                f"name a model of a known family, or leave out target.{name}; an adapter that"
                " merges needs no such place: train=lora",
                context.at("train.method"),
            )
    return None
