"""A base model's layers and sizes, from tensor shapes and configuration alone.

Knows how decoders of transformers name things; knows nothing of recipes, memory or PEFT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any

from slmcompile.base.facts import ModelFacts
from slmcompile.base.random_shapes import random_config, random_shapes
from slmcompile.facts.context import CheckContext
from slmcompile.recipe.schema import RandomModel
from slmcompile.shapes.target_modules import leaf

_EMBEDDINGS = frozenset({"embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings"})
_HEADS = frozenset({"lm_head", "embed_out"})
_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "I8": 8, "U8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of an element by safetensors dtype (https://github.com/huggingface/safetensors)."""


@dataclass(frozen=True, eq=False)
class Architecture:
    """A model's layers; equal by identity, so that what follows from one is remembered with it.

    Attributes:
        config: ``config.json``.
        shapes: shape by name of every stored tensor, tied weights once.
        linears: [out, in] by name of every linear layer but the output head.
        others: [rows, width] by name of the embeddings and of a head of its own.
        stored: bytes of the stored weights by their safetensors dtype.
        built: whether the names are the built model's own, so that nothing is called otherwise.
    """

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    linears: Mapping[str, tuple[int, int]]
    others: Mapping[str, tuple[int, int]]
    stored: Mapping[str, int]
    built: bool = False

    @property
    def parameters(self) -> int:
        """Weights, tied ones once."""
        return sum(prod(shape) for shape in self.shapes.values())

    @property
    def stored_bytes(self) -> int:
        """Size of the stored weights."""
        return sum(self.stored.values())

    def converted_bytes(self, dtype: str) -> int:
        """Bytes that are copied when it is opened in a dtype; others stay mapped as they lie."""
        return sum(size for name, size in self.stored.items() if name != dtype)

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers but the output head."""
        return sum(prod(shape) for shape in self.linears.values())

    @property
    def embedding(self) -> tuple[int, int] | None:
        """[tokens, width] of the input embedding; None where no tensor is one."""
        found = (shape for name, shape in self.others.items() if leaf(name) in _EMBEDDINGS)
        return next(found, None)

    @cached_property
    def tied_head(self) -> Mapping[str, tuple[int, int]]:
        """Shape by name of an output head that is the embedding again; empty where it is not."""
        own = any(leaf(name) in _HEADS for name in self.others)
        return {} if own or self.embedding is None else {"lm_head": self.embedding}

    @cached_property
    def layers(self) -> Mapping[str, tuple[int, int]]:
        """[out, in] by name of every layer that can carry an adapter."""
        return {**self.linears, **self.others, **self.tied_head}

    @property
    def has_experts(self) -> bool:
        """Whether layers are stored apart that the modelling code joins: names may differ."""
        return not self.built and any(".experts." in name for name in self.shapes)

    @cached_property
    def modules(self) -> frozenset[str]:
        """Names of all modules that hold weights, and of those around them."""
        found: set[str] = set()
        for name in (*self.shapes, *(f"{name}.weight" for name in self.layers)):
            parts = name.split(".")
            found |= {".".join(parts[:length]) for length in range(1, len(parts))}
        return frozenset(found)


def architecture_of(context: CheckContext) -> Architecture | None:
    """What is known of the base model's layers now.

    A random model's follow from the recipe; every other needs the ``base`` stage's output.
    """
    if context.model is not None:
        return _of_facts(context.model)
    source = context.recipe.model.source
    return _of_random(source) if isinstance(source, RandomModel) else None


@lru_cache(maxsize=8)
def _of_facts(facts: ModelFacts) -> Architecture:
    found = architecture(facts.config, facts.tensors, facts.dtypes)
    return found if facts.modules is None else _as_built(found, facts.modules)


@lru_cache(maxsize=8)
def _of_random(source: RandomModel) -> Architecture:
    shapes = random_shapes(source)
    return architecture(random_config(source), shapes, dict.fromkeys(shapes, "F32"))


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
        inner = leaf(name) not in _EMBEDDINGS | _HEADS
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
        return leaf(name) in _HEADS and f"{name}.weight" not in found.shapes

    linears: dict[str, tuple[int, int]] = {}
    others: dict[str, tuple[int, int]] = {}
    for name, (kind, shape) in modules.items():
        if len(shape) == 2 and kind == "Linear" and leaf(name) not in _HEADS:
            linears[name] = (shape[0], shape[1])
        elif len(shape) == 2 and kind in {"Linear", "Embedding"} and not tied(name):
            others[name] = (shape[0], shape[1])
    return replace(found, linears=linears, others=others, built=True)
