"""Which weights a recipe trains, counted from shapes."""

from __future__ import annotations

from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.shapes.architecture import Architecture, Trainable


def trainable(train: Train, model: Architecture) -> Trainable:
    """As the method counts them."""
    return METHODS[train.method].trainable(train, model)


def unmerged(train: Train, model: Architecture) -> int:
    """Weights that ship beside those of the base: of an adapter that does not merge, in fp32."""
    method = METHODS[train.method]
    merges = method.writes == "model" or "merged" in method.forms
    return 0 if merges else method.trainable(train, model).adapter
