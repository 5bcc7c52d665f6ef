"""A model's layers as names and sizes, and which of its weights a run trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from slmcompile.shapes.target_modules import leaf

EMBEDDINGS = frozenset({"embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings"})
HEADS = frozenset({"lm_head", "embed_out"})


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
        found = (shape for name, shape in self.others.items() if leaf(name) in EMBEDDINGS)
        return next(found, None)

    @property
    def width(self) -> int | None:
        """Of the residual stream; None where no tensor is an embedding."""
        return None if self.embedding is None else self.embedding[1]

    @cached_property
    def tied_head(self) -> Mapping[str, tuple[int, int]]:
        """Shape by name of an output head that is the embedding again; empty where it is not."""
        own = any(leaf(name) in HEADS for name in self.others)
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


@dataclass(frozen=True)
class Trainable:
    """What the optimizer moves.

    Attributes:
        adapted: names of the layers that carry a low-rank adapter.
        adapter: weights of the adapters.
        saved: weights of ``modules_to_save``, trained whole beside the adapter.
        whole: weights of the base model that are trained themselves (method full).
    """

    adapted: tuple[str, ...]
    adapter: int
    saved: int
    whole: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.adapter + self.saved + self.whole
