"""Whether training can begin from what another training wrote."""

from __future__ import annotations

import json
from typing import Any

from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import OF_THE_BASE, Lora
from slmcompile.registry.section import Section

_MAY_DIFFER = frozenset({"lora_dropout"})
"""Keys of an adapter's section that are about training and not about what is trained."""
_OF_THE_BASE = "quantization"
"""How the base is held while it is trained over; what is written is of the whole one."""


def cannot_continue(train: Train, earlier: Train) -> str:
    """Why not, in words; empty where it can.

    An adapter goes on as the same adapter, whether the base was in 4 bits or is; all weights go on
    as all weights. Neither becomes the other: an adapter is not merged to train all weights, and a
    model that was trained whole is no base that adapters are known of.
    """
    own, theirs = METHODS[train.method], METHODS[earlier.method]
    if own.writes != theirs.writes:
        wrote = "an adapter" if theirs.writes == "adapter" else "a whole model"
        return f"it trains {wrote}, {theirs.title}, and this is {own.title}"
    shape, before = _shape(train), _shape(earlier)
    if own.name != theirs.name and (not shape or shape.keys() != before.keys()):
        return f"it is {theirs.title}, and this is {own.title}"
    lora = getattr(earlier, "lora", None)
    if isinstance(lora, Lora) and lora.init_lora_weights in OF_THE_BASE:
        return "its adapter began as a part of the base, and is written with twice its rank"
    for key, here in shape.items():
        if here != before[key]:
            was, now = (json.dumps(value) for value in (before[key], here))
            return f"its train.{key} is {was}, and here it is {now}"
    return ""


def _shape(train: Train) -> dict[str, Any]:
    """The method's own keys, which say what is trained, by dotted key."""
    found: dict[str, Any] = {}
    for name in type(train).model_fields.keys() - Train.model_fields.keys() - {_OF_THE_BASE}:
        value = getattr(train, name)
        if isinstance(value, Section):
            below = type(value).model_fields.keys() - _MAY_DIFFER
            found |= {f"{name}.{key}": getattr(value, key) for key in below}
        else:
            found[name] = value
    return dict(sorted(found.items()))
