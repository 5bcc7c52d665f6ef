"""Which targets fit the device that a recipe says it ships to, and which is worth building.

By sizes alone, before anything is trained; what a precision costs is measured by a run. Knows
declarations and shapes; knows no stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from slmcompile.estimate.build_memory import IN_RUNTIME
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.providers import PROVIDERS
from slmcompile.providers.provider import Provider
from slmcompile.shapes.architecture import Architecture

GB = 1e9
_BITS = {"fp32": 32, "f16": 16, "fp16": 16, "bf16": 16, "int8": 8, "q8_0": 8, "w8a16": 8}
"""Bits of a weight; of all others 4."""
_LARGE = 1e9
"""Weights from which on 4 bits cost a model little; README has what they cost a small one."""


@dataclass(frozen=True)
class Fit:
    """A target for the device.

    Attributes:
        target: as in ``target=[NAME]``.
        weights_gb: of the weights that ship, 10⁹ bytes.
        memory_gb: what they take in memory, from and to.
        fits: ``yes``, ``perhaps`` or ``no``.
        worth: whether it is the one to build first.
        built: whether the recipe has one of that provider and precision.
    """

    target: str
    weights_gb: float
    memory_gb: tuple[float, float]
    fits: str
    worth: bool
    built: bool


def recommended(context: CheckContext) -> tuple[Fit, ...]:
    """The targets for the recipe's ``deploy``; none where it has none or the shapes are unknown."""
    deploy, model = context.recipe.deploy, architecture_of(context)
    if deploy is None or model is None:
        return ()
    family = str(model.config.get("model_type"))
    built = {(each.execution_provider, each.precision) for each in context.recipe.target.values()}
    found: list[tuple[tuple[int, ...], Fit]] = []
    for provider in PROVIDERS.values():
        if deploy.device not in provider.devices or family not in provider.architectures:
            continue
        for precision in _precisions(provider):
            target = provider.section(execution_provider=provider.name, precision=precision)
            if provider.fault(target, model) is None:
                made = (provider.name, precision) in built
                fit = _fit(provider, target, model, deploy.memory_gb, made=made)
                found.append((_wrong(provider, precision, fit, model), fit))
    best = min(found, key=lambda each: each[0], default=(None, None))[1]
    return tuple(
        replace(fit, worth=True) if fit is best and fit.fits != "no" else fit for _, fit in found
    )


def _precisions(provider: Provider) -> Sequence[str]:
    """Those that are built as they are named, without a choice by measuring."""
    named = get_args(provider.section.model_fields["precision"].annotation)
    return [each for each in named if each != "auto"]


def _fit(
    provider: Provider, target: Any, model: Architecture, limit: float | None, *, made: bool
) -> Fit:
    weights = provider.bytes(target, model) / GB
    low, high = weights * IN_RUNTIME.low, weights * IN_RUNTIME.high
    fits = "yes" if limit is None or high <= limit else "perhaps" if low <= limit else "no"
    name = f"{provider.name}-{target.precision}".replace("_", "-")
    return Fit(
        name, round(weights, 3), (round(low, 3), round(high, 3)), fits, worth=False, built=made
    )


def _wrong(provider: Provider, precision: str, fit: Fit, model: Architecture) -> tuple[int, ...]:
    """The smaller the better: it fits; made for that device and few others; 8 bits, or 4 of many.

    8 bits cost no accuracy that was measured, and half of what 16 take.
    """
    wanted = 4 if model.parameters >= _LARGE else 8
    far = abs(_BITS.get(precision, 4) - wanted)
    return (["yes", "perhaps", "no"].index(fit.fits), len(provider.devices), far)


def recommended_lines(context: CheckContext) -> list[str]:
    """For people: where it ships to, and a line for each target."""
    deploy, fits = context.recipe.deploy, recommended(context)
    if deploy is None:
        return []
    room = "" if deploy.memory_gb is None else f" with {deploy.memory_gb:g} GB for the model"
    if architecture_of(context) is None:
        return [f"Ships to {deploy.device}{room}: which targets fit there is known after base."]
    lines = [f"Ships to {deploy.device}{room}:"]
    for fit in fits:
        low, high = fit.memory_gb
        takes = f"{fit.weights_gb:.2f} GB of weights, {low:.2f} to {high:.2f} GB in memory"
        fit_words = {"yes": "fits", "perhaps": "may fit", "no": "does not fit"}[fit.fits]
        told = [fit_words, *(["in this recipe"] if fit.built else [])]
        if fit.worth:
            told.append("worth building" + ("" if fit.built else f": target=[{fit.target}]"))
        lines.append(f"  {fit.target}: {takes}; {', '.join(told)}")
    if not fits:
        lines.append("  no provider that is here builds this model for it")
    others = [
        name
        for name, target in context.recipe.target.items()
        if deploy.device not in PROVIDERS[target.execution_provider].devices
    ]
    if others:
        lines.append(f"  not for {deploy.device}: {', '.join(others)}")
    return lines
