"""The rule over budgets: what a target is chosen by can be held by one of its candidates."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.plans.budgets import auto_targets
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Budget, Target
from slmcompile.shapes.architecture import Architecture

MB = 1e6


@check(
    41,
    "budget-can-be-held",
    "hours of exports and answers, after which no candidate is small enough, or none has a speed",
    needs=("C", "H"),
)
def budget_can_be_held(context: CheckContext) -> Verdict:
    """By the least bytes that weights take, which a folder never falls below."""
    targets = auto_targets(context.recipe)
    if not targets:
        return proved("no target's precision is chosen")
    for name, target in targets.items():
        if refusal := _no_speed(context, name, target):
            return refusal
    model = architecture_of(context)
    if model is None:
        return needs_probe(context.base_stage, "the sizes of candidates are known by then")
    told = []
    for name, target in targets.items():
        sizes = estimated(target, model)
        most = (target.budget or Budget()).max_size
        if not sizes:
            return refuted(
                f"target.{name}: no candidate can be built of this model",
                f"list others under target.{name}.candidates",
                context.at(f"target.{name}"),
            )
        smallest = min(sizes, key=lambda label: sizes[label])
        if most is not None and sizes[smallest] > most:
            return refuted(
                f"target.{name}: no candidate is as small as {most:g} MB; the smallest, {smallest},"
                f" has {sizes[smallest]:.4g} MB of weights",
                f"set target.{name}.budget.max_size to {sizes[smallest] * 1.1:.3g} or more, list"
                " smaller candidates, or take a smaller model",
                context.at(f"target.{name}.budget.max_size"),
            )
        told.append(f"{name} {min(sizes.values()):.4g} to {max(sizes.values()):.4g} MB of weights")
    return proved(", ".join(told))


def estimated(target: Target, model: Architecture) -> dict[str, float]:
    """MB of the weights of each candidate that can be built, by name."""
    provider = PROVIDERS[target.execution_provider]
    return {
        label: provider.bytes(each, model) / MB
        for label, each in target.among.items()
        if not provider.fault(each, model)
    }


def _no_speed(context: CheckContext, name: str, target: Target) -> Verdict | None:
    """The refusal of a bar on speed where the CPU's provider answers in another's place."""
    from slmcompile.inference.runs_here import runs_here

    least = (target.budget or Budget()).min_tokens_per_s
    if least is None or runs_here(target.execution_provider):
        return None
    provider = PROVIDERS[target.execution_provider]
    return refuted(
        f"target.{name}: speed on {provider.title} is not measured here, which has no"
        f" {provider.install or provider.title}",
        f"choose on a machine that has it, or take target.{name}.budget.min_tokens_per_s out",
        context.at(f"target.{name}.budget.min_tokens_per_s"),
    )
