"""What every section of a recipe is: frozen, strict and closed (an unknown key is an error)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

# What numpy's generator takes, and so transformers' `set_seed`.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def cosmetic(default: Any, description: str, **constraints: Any) -> Any:
    """A field that cannot change a result: it moves no fingerprint and reruns nothing."""
    return Field(
        default, description=description, json_schema_extra={"cosmetic": True}, **constraints
    )


class Section(BaseModel):
    """Base of every recipe section: frozen, closed, strict.

    Attributes:
        said_if_other: keys that its JSON values hold only where they are not at their default.
    """

    said_if_other: ClassVar[tuple[str, ...]] = ()

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        # Built with the recipe that holds it, once all tables are there, and not each by itself.
        defer_build=True,
    )
