"""Which weights a recipe trains, counted from shapes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from slmcompile.checks.architecture import Architecture
from slmcompile.recipe.schema import Lora, Train
from slmcompile.training.target_modules import matched, patterns_of


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


def trainable(train: Train, model: Architecture) -> Trainable:
    """Counts them; an adapter of rank r on a layer [out, in] has r·(out + in) weights."""
    if train.lora is None:
        return Trainable((), 0, 0, model.parameters)
    return _adapter(train.lora, model)


@lru_cache(maxsize=64)
def _adapter(lora: Lora, model: Architecture) -> Trainable:
    """Many checks ask, and many recipes train the same adapter."""
    layers = {**model.linears, **model.others}
    adapted = sorted(matched(layers, patterns(lora, model)))
    adapter = sum(lora.r * sum(layers[name]) for name in adapted)
    return Trainable(tuple(adapted), adapter, _saved(lora, model), 0)


def patterns(lora: Lora, model: Architecture) -> list[str]:
    """``target_modules`` as training hands them to PEFT."""
    return patterns_of(lora.target_modules, model.linears, model.others)


def _saved(lora: Lora, model: Architecture) -> int:
    modules = matched(model.modules, lora.modules_to_save)
    return sum(
        prod(shape)
        for name, shape in model.shapes.items()
        if any(name.startswith(f"{module}.") for module in modules)
    )
