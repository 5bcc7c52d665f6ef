"""Sections of a recipe, made for a test."""

from __future__ import annotations

from typing import Any

from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train


def train_section(method: str = "lora", **values: Any) -> Any:
    """The ``train`` section of a method."""
    section: type[Train] = METHODS[method].section
    return section(**values)
