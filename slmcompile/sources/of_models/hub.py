"""Weights of the Hugging Face hub."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slmcompile.sources.keys import HubKeys, RepoKind
from slmcompile.sources.source import ModelSource


class HubModel(HubKeys):
    """Weights of a repository on the Hugging Face hub, at one commit."""

    kind: ClassVar[RepoKind] = "model"

    type: Literal["hub"] = Field(description="Weights of the Hugging Face hub.")


ENTRIES = (
    ModelSource(name="hub", place=10, section=HubModel, program="slmcompile.base.hub:fetch_hub"),
)
