"""Which weights a recipe trains, counted from shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from slmcompile.facts.architecture import Architecture
from slmcompile.recipe.schema import Lora, Train
from slmcompile.shapes.target_modules import matched, patterns_of


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
    whole = matched(model.modules, lora.modules_to_save)
    meant = matched(model.layers, patterns(lora, model))
    # PEFT puts no adapter on what is saved whole, nor on anything inside it.
    adapted = sorted(name for name in meant if not _within(name, whole))
    adapter = sum(lora.r * sum(model.layers[name]) for name in adapted)
    return Trainable(tuple(adapted), adapter, _saved(lora, model), 0)


def patterns(lora: Lora, model: Architecture) -> list[str]:
    """``target_modules`` as training hands them to PEFT."""
    return patterns_of(lora.target_modules, model.linears, model.others)


def _saved(lora: Lora, model: Architecture) -> int:
    """A tied head gets weights of its own. PEFT 0.21 goes by how names end: by ``norm``, all."""
    whole = {name for name in model.modules if name.endswith(lora.modules_to_save)}
    heads = {f"{name}.weight": shape for name, shape in model.tied_head.items()}
    weights = {**model.shapes, **heads}
    return sum(prod(shape) for name, shape in weights.items() if _within(name, whole))


def _within(name: str, modules: Iterable[str]) -> bool:
    """Whether it is one of the modules or lies in one."""
    return any(f"{name}.".startswith(f"{module}.") for module in modules)
