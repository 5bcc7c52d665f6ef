"""Names in ``train.lora`` that mean nothing in a model: the one rule, for the checks and training.

Works on names alone; knows nothing of how they became known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from slmcompile.methods.lora import Lora, adapted
from slmcompile.shapes.target_modules import layer_of, matched, meant


@dataclass(frozen=True)
class Unmatched:
    """A name in a section that means nothing in the model.

    Attributes:
        key: of ``train.lora``.
        given: the name.
        choices: names that would mean something.
    """

    key: str
    given: str
    choices: frozenset[str]


def unmatched(
    lora: Lora, patterns: Iterable[str], layers: Collection[str], modules: Collection[str]
) -> Unmatched | None:
    """The first of its names that means nothing; arguments as of ``adapted``."""
    patterns = list(patterns)
    # A tied head is there, under whatever name the headers leave out.
    first = _first("target_modules", patterns, {*layers, "lm_head"}, layers) or _first(
        "modules_to_save", sorted(lora.modules_to_save), {*modules, "lm_head"}, modules
    )
    return first or _among_adapted(lora, patterns, layers, modules)


def _among_adapted(
    lora: Lora, patterns: list[str], layers: Collection[str], modules: Collection[str]
) -> Unmatched | None:
    """The same of the keys that choose among the layers which ``target_modules`` means."""
    wanted = meant(layers, patterns)
    numbers = {str(layer_of(name)) for name in wanted} - {"None"}
    for number in lora.layers_to_transform or ():
        if str(number) not in numbers:
            return Unmatched("layers_to_transform", str(number), frozenset(numbers))
    have = adapted(lora, patterns, layers, modules)
    first = _first("exclude_modules", lora.exclude_modules, wanted)
    if first or not have:  # that nothing is adapted is one fault, whatever else names layers
        return first
    return _first("rank_pattern", lora.rank_pattern, have) or _first(
        "alpha_pattern", lora.alpha_pattern, have
    )


def _first(
    key: str, given: Iterable[str], names: Collection[str], choices: Collection[str] | None = None
) -> Unmatched | None:
    """The first pattern that means none of the names."""
    for pattern in given:
        if not matched(names, [pattern]):
            return Unmatched(key, pattern, frozenset(names if choices is None else choices))
    return None
