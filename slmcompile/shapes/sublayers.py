"""Attention and MLP of every decoder layer, found by the names that transformers gives modules.

Works on names alone, whether they come from a loaded model or from a safetensors header; knows
nothing of torch or recipes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

Sublayer = Literal["self_attn", "mlp"]
SUBLAYERS: tuple[Sublayer, ...] = get_args(Sublayer)

_LAYER = re.compile(r"(?P<stack>(?:.*?\.)?layers)\.(?P<number>\d+)(?:\.(?P<inside>.+))?")


def sublayers(modules: Iterable[str]) -> tuple[Mapping[Sublayer, str], ...]:
    """Name of the attention and of the MLP of each decoder layer, the lowest layer first.

    A layer that mixes its tokens otherwise has no ``self_attn``. Empty where the names do not make
    up one stack of layers (a model that also sees has one of each kind).
    """
    stacks: defaultdict[str, defaultdict[int, dict[Sublayer, str]]]
    stacks = defaultdict(lambda: defaultdict(dict))
    for name in modules:
        found = _LAYER.fullmatch(name)
        if found is None:
            continue
        layer = stacks[found["stack"]][int(found["number"])]
        for kind in SUBLAYERS:
            if found["inside"] == kind:
                layer[kind] = name
    if len(stacks) != 1:
        return ()
    ((_, layers),) = stacks.items()
    if sorted(layers) != list(range(len(layers))):
        return ()
    return tuple(layers[number] for number in range(len(layers)))
