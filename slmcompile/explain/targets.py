"""Which targets there are, and what this machine can do with each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from slmcompile.console.errors import MissingError
from slmcompile.inference.runs_here import runs_here
from slmcompile.plans.installed import versions
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import AUTO
from slmcompile.providers.provider import Provider


@dataclass(frozen=True)
class TargetHere:
    """A provider and a precision.

    Attributes:
        provider: as in ``target.NAME.execution_provider``.
        precision: as in ``target.NAME.precision``.
        word: ``verified`` where its provider runs it here; ``simulated`` where a simulator of its
            device can be asked, and ``emulated`` where the CPU's runs the very graph in its place,
            both of which measure answers and not speed; ``generated`` where the CPU's runs the same
            weights in fp32, as it has no kernels for them; ``missing`` where it can not be built
            either, as its runtime is not installed.
        why: why it is no more than that; empty where it is verified.
        adapters: how an adapter ships in it.
    """

    provider: str
    precision: str
    word: str
    why: str
    adapters: tuple[str, ...]


def targets_here() -> tuple[TargetHere, ...]:
    """Every pair that a recipe can name."""
    found: list[TargetHere] = []
    for provider in PROVIDERS.values():
        here = runs_here(provider.name)
        why = "" if here else f"{provider.title} is not on this machine: {provider.install}"
        adapters = ["merged"]
        adapters += ["nodes of the graph"] if provider.inserts_into else []
        adapters += ["inputs beside the base"] if provider.read_back else []
        word = "verified" if here else _instead(provider)
        if word == "simulated":
            why = f"{provider.title} is not on this machine: {provider.simulator} simulates it"
        precisions = get_args(provider.section.model_fields["precision"].annotation)
        for each in precisions:
            # What is chosen is chosen among merged ones.
            how = tuple(adapters[:1]) if each == AUTO else tuple(adapters)
            own = "generated" if word == "emulated" and each in provider.widened else word
            found.append(TargetHere(provider.name, each, own, why, how))
    return tuple(found)


def _instead(provider: Provider) -> str:
    """What there is of a provider that is not on this machine."""
    if not provider.simulator:
        return "emulated" if provider.runtime_name else "missing"
    try:
        versions(provider.simulator)
    except MissingError:
        return "missing"
    return "simulated"


def lines(found: Sequence[TargetHere]) -> list[str]:
    """A table for people."""
    rows = [["provider", "precision", "here", "adapters", ""]]
    rows += [[t.provider, t.precision, t.word, ", ".join(t.adapters), t.why] for t in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in rows
    ]
