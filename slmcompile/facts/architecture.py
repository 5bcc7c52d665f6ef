"""A base model's layers and sizes, from tensor shapes and configuration alone.

Knows how decoders of transformers name things; knows nothing of recipes, memory or PEFT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import Any

from slmcompile.base.facts import ModelFacts
from slmcompile.facts.context import CheckContext
from slmcompile.shapes.architecture import EMBEDDINGS, HEADS, Architecture
from slmcompile.shapes.target_modules import leaf
from slmcompile.sources import described_by
from slmcompile.sources.keys import SourceKeys

_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "I8": 8, "U8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of an element by safetensors dtype (https://github.com/huggingface/safetensors)."""


def architecture_of(context: CheckContext) -> Architecture | None:
    """What is known of the base model's layers now.

    Some sources tell them (a random model's sizes are in the recipe); others need the ``base``
    stage's output.
    """
    if context.model is not None:
        return _of_facts(context.model)
    source = context.recipe.model.source
    return _of_source(_Source(repr(source), source))


@lru_cache(maxsize=8)
def _of_facts(facts: ModelFacts) -> Architecture:
    found = architecture(facts.config, facts.tensors, facts.dtypes)
    return found if facts.modules is None else _as_built(found, facts.modules)


@dataclass(frozen=True)
class _Source:
    """A source, equal where its keys are; these may hold what has no hash."""

    text: str
    keys: SourceKeys = field(compare=False)


@lru_cache(maxsize=8)
def _of_source(asked: _Source) -> Architecture | None:
    told = described_by(asked.keys)
    if told is None:
        return None
    return architecture(told.config, told.shapes, dict.fromkeys(told.shapes, "F32"))


def architecture(
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
) -> Architecture:
    """Sorts tensors into linear layers, embeddings and the rest, by name and number of axes."""
    linears: dict[str, tuple[int, int]] = {}
    others: dict[str, tuple[int, int]] = {}
    for tensor, shape in shapes.items():
        name, _, kind = tensor.rpartition(".")
        if kind != "weight" or len(shape) != 2 or "norm" in leaf(name):
            continue
        inner = leaf(name) not in EMBEDDINGS | HEADS
        (linears if inner else others)[name] = (shape[0], shape[1])
    stored: Counter[str] = Counter()
    for name, shape in shapes.items():
        stored[dtypes[name]] += prod(shape) * _BITS.get(dtypes[name], 32) // 8
    return Architecture(config, shapes, linears, others, stored)


def _as_built(
    found: Architecture, modules: Mapping[str, tuple[str, tuple[int, ...]]]
) -> Architecture:
    """The layers by the model that transformers built without weights, rather than by names."""

    def tied(name: str) -> bool:
        return leaf(name) in HEADS and f"{name}.weight" not in found.shapes

    linears: dict[str, tuple[int, int]] = {}
    others: dict[str, tuple[int, int]] = {}
    for name, (kind, shape) in modules.items():
        if len(shape) == 2 and kind == "Linear" and leaf(name) not in HEADS:
            linears[name] = (shape[0], shape[1])
        elif len(shape) == 2 and kind in {"Linear", "Embedding"} and not tied(name):
            others[name] = (shape[0], shape[1])
    return replace(found, linears=linears, others=others, built=True)
