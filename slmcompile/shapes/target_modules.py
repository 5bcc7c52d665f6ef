"""Which modules a name in ``target_modules`` means: the one rule, for the checks and for training.

Works on names alone, whether they come from a loaded model or from a safetensors header; knows
nothing of PEFT, torch or recipes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

ALL_LINEAR = "all-linear"


def leaf(name: str) -> str:
    """Last part of a module's name."""
    return name.rpartition(".")[2]


def matches(name: str, pattern: str) -> bool:
    """PEFT's own rule: the full name, or a suffix of it that starts at a dot."""
    return name == pattern or name.endswith(f".{pattern}")


def matched(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """The names that any of the patterns means."""
    patterns = tuple(patterns)
    return {name for name in names if any(matches(name, pattern) for pattern in patterns)}


def layer_of(name: str) -> int | None:
    """Number of the decoder layer that a module lies in, as PEFT's ``layers_to_transform`` has it.

    The first number in a name: ``model.layers.3.mlp.experts.0.w1`` lies in layer 3.
    """
    parts = name.split(".")
    return next((int(part) for part in parts[:-1] if part.isascii() and part.isdigit()), None)


def meant(
    names: Iterable[str],
    patterns: Iterable[str],
    exclude: Iterable[str] = (),
    layers: Collection[int] | None = None,
) -> set[str]:
    """The names that any of the patterns means, without those that are excluded.

    Args:
        names: of modules.
        patterns: as in ``target_modules``, resolved.
        exclude: as in ``exclude_modules``.
        layers: numbers of the decoder layers that count, and nothing outside a layer; None: all.
    """
    found = matched(names, patterns)
    found -= matched(found, exclude)
    return found if layers is None else {name for name in found if layer_of(name) in layers}


def most_specific(values: Mapping[str, T], name: str, default: T) -> T:
    """The value of the longest pattern that means ``name``, as ``rank_pattern`` gives a rank.

    PEFT takes the first that it finds; a recipe's mapping has no order (its spec is sorted).
    """
    found = max((pattern for pattern in values if matches(name, pattern)), key=len, default=None)
    return default if found is None else values[found]


def patterns_of(
    target_modules: str | Iterable[str], linears: Collection[str], others: Iterable[str]
) -> list[str]:
    """Sorted patterns for PEFT.

    ``all-linear`` becomes the leaf names of all linears, or their full names where a leaf is also
    that of a module which is not meant. PEFT would resolve it too, but its list then depends on
    the hash seed of the process (peft 0.21).

    Args:
        target_modules: as the recipe says.
        linears: names of all linear layers but the output head.
        others: names of other modules that LoRA can adapt (embeddings, the head).
    """
    if target_modules != ALL_LINEAR:
        return sorted(set(target_modules))
    leaves = {leaf(name) for name in linears}
    clash = any(leaf(name) in leaves for name in others)
    return sorted(linears if clash else leaves)
