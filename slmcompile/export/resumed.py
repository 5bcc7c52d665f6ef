"""Asks a model again of which only deep layers have changed: what lies before them is remembered.

Half of the work of measuring every layer by itself, and the same numbers to the bit: what a layer
gave the first time it gives again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any


class Layers:
    """A decoder's layers, one behind the other, asked for the same batches again and again.

    Args:
        layers: the modules.
        wanted: of which layers something will change first; what those before give is kept.
    """

    def __init__(self, layers: Sequence[Any], wanted: Sequence[int]) -> None:
        self._layers = layers
        self._kept: dict[int, list[Any]] = {first - 1: [] for first in wanted if first > 0}

    def __len__(self) -> int:
        return len(self._layers)

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """What is asked meanwhile is what will be asked again, in this order."""
        hooks = [
            self._layers[number].register_forward_hook(partial(_keep, kept))
            for number, kept in self._kept.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def changed_from(self, first: int) -> Iterator[None]:
        """Nothing has changed before a layer, which is one of those that were wanted, or 0."""
        if first < 1:
            yield
            return
        again = iter(self._kept[first - 1])
        for layer in self._layers[: first - 1]:
            layer.forward = _passed_on
        self._layers[first - 1].forward = lambda *_a, **_k: next(again)
        try:
            yield
        finally:
            for layer in self._layers[:first]:
                del layer.forward


def _keep(kept: list[Any], _layer: Any, _given: Any, out: Any) -> None:
    kept.append(out)


def layers_of(model: Any) -> list[Any]:
    """A decoder's layers in their order, by their names; empty where none are called so."""
    found = {
        int(name.rpartition(".")[2]): module
        for name, module in model.named_modules()
        if re.fullmatch(r"(?:.+\.)?layers\.\d+", name)
    }
    return [found[number] for number in sorted(found)]


def _passed_on(hidden_states: Any, *_arguments: Any, **_named: Any) -> Any:
    return hidden_states
