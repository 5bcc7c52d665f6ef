"""The keys of a target that every provider has; a provider's own stand beside its declaration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from slmcompile.providers import PROVIDERS
from slmcompile.registry.markers import NameIn
from slmcompile.registry.section import Section

ProviderName = Annotated[
    str,
    NameIn(PROVIDERS),
    Field(description="What runs it: a provider of ONNX Runtime, hf or gguf."),
]


class Target(Section):
    """One exported artifact: what runs it, and a precision."""

    execution_provider: ProviderName
    precision: str = Field(description="Type of the exported weights.")
    adapters: Literal["merged", "beside"] | None = Field(
        None,
        description="merged: an adapter becomes part of the weights, which are quantised after it."
        " beside: it stays in floating point beside weights that hold the base alone, and several"
        " adapters share one base in one folder. null: beside where train.over is given, which"
        " allows no other, and otherwise merged.",
    )

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not asked for: a spec that says nothing of it stays as it was."""
        found: dict[str, Any] = rest(self)
        return {key: value for key, value in found.items() if key != "adapters" or value}
