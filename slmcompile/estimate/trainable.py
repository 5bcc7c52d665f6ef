"""Which weights a recipe trains, counted from shapes."""

from __future__ import annotations

from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.shapes.architecture import Architecture, Trainable


def trainable(train: Train, model: Architecture) -> Trainable:
    """As the method counts them."""
    return METHODS[train.method].trainable(train, model)
