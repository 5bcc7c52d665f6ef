"""A recipe's sections as specs hold them: JSON values without what can change no result."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel


def without_cosmetic(section: BaseModel) -> dict[str, Any]:
    """A section and all below it without cosmetic leaves, as JSON values."""
    return {
        key: without_cosmetic(below) if isinstance(below, BaseModel) else value
        for key, value in typed(section).items()
        for below in (getattr(section, key),)
    }


def typed(section: BaseModel) -> dict[str, Any]:
    """A section without its cosmetic leaves, as JSON values."""
    return section.model_dump(mode="json", exclude=set(cosmetic_names(type(section))))


@cache
def cosmetic_names(section: Any) -> frozenset[str]:
    """Keys of a section's type that can change no result."""
    return frozenset(
        name
        for name, field in section.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("cosmetic")
    )
