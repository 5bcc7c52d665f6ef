"""A recipe's sections as specs hold them: JSON values without what can change no result."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel


def without_cosmetic(section: BaseModel, values: Mapping[str, Any]) -> dict[str, Any]:
    """A section's JSON values, and those of all below it, without cosmetic leaves."""
    return {
        key: without_cosmetic(below, value) if isinstance(below, BaseModel) else value
        for key, value in typed(section, values).items()
        for below in (getattr(section, key),)
    }


def typed(section: BaseModel, values: Mapping[str, Any]) -> dict[str, Any]:
    """A section's JSON values without its cosmetic leaves.

    The values are taken out of those of the whole recipe: pydantic would build a serializer for
    each section that is asked by itself.
    """
    cosmetic = cosmetic_names(type(section))
    return {key: value for key, value in values.items() if key not in cosmetic}


@cache
def cosmetic_names(section: Any) -> frozenset[str]:
    """Keys of a section's type that can change no result."""
    return frozenset(
        name
        for name, field in section.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("cosmetic")
    )
