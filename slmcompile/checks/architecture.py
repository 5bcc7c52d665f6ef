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

from slmcompile.base.random_shapes import random_config, random_shapes
from slmcompile.checks.context import CheckContext
from slmcompile.checks.model_facts import ModelFacts
from slmcompile.recipe.schema import RandomModel
from slmcompile.training.target_modules import leaf

_EMBEDDINGS = frozenset({"embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings"})
_HEADS = frozenset({"lm_head", "embed_out"})
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1}


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
    def embedding_rows(self) -> int | None:
        """Tokens that the input embedding knows; None where no tensor is one."""
        rows = [shape[0] for name, shape in self.others.items() if leaf(name) in _EMBEDDINGS]
        return rows[0] if rows else None

    @property
    def has_experts(self) -> bool:
        """Whether layers are stored apart that the modelling code joins: names may differ."""
        return not self.built and any(".experts." in name for name in self.shapes)

    @cached_property
    def modules(self) -> frozenset[str]:
        """Names of all modules that hold weights, and of those around them."""
        found: set[str] = set()
        for name in (*self.shapes, *(f"{name}.weight" for name in (*self.linears, *self.others))):
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
        stored[dtypes[name]] += prod(shape) * _BYTES.get(dtypes[name], 4)
    return Architecture(config, shapes, linears, others, stored)


def _as_built(
    found: Architecture, modules: Mapping[str, tuple[str, tuple[int, ...]]]
) -> Architecture:
    """The layers by the model that transformers built without weights, rather than by names."""
    linears: dict[str, tuple[int, int]] = {}
    others: dict[str, tuple[int, int]] = {}
    for name, (kind, shape) in modules.items():
        if len(shape) == 2 and kind == "Linear" and leaf(name) not in _HEADS:
            linears[name] = (shape[0], shape[1])
        elif len(shape) == 2 and kind in {"Linear", "Embedding"}:
            others[name] = (shape[0], shape[1])
    return replace(found, linears=linears, others=others, built=True)
